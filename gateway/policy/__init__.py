"""Routes and their rules."""
