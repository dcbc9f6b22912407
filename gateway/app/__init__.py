"""The composition root: everything is made, joined, started and ended here."""
