"""multipart."""
