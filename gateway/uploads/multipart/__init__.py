"""Reads multipart/form-data forms that all parsers read alike, and refuses all others."""
