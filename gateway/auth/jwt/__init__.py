"""JSON Web Tokens, parsed strictly (RFC 7515 to 7519)."""
