"""Building blocks on the event loop: Drive, turns, the deadline sweep, TLS in turns."""
