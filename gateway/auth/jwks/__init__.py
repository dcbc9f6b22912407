"""jwks."""
