"""The commands: click's declarations, and the functions that do the work."""
