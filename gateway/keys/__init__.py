"""Keys made and changed, for commands and admin API alike."""
