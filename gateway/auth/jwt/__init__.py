"""Tokens, read strictly (RFC 7515 to 7519)."""
