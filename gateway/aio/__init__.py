"""What stands on the event loop: Drive, turns, deadlines, TLS in turns."""
