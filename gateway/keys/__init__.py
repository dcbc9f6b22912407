"""Creates and changes keys, for commands and admin API alike."""
