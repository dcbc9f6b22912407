"""The composition root: creates, wires, starts and stops all parts."""
