"""Routes and their access rules."""
