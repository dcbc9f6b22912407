"""Webhooks that come in: verified, handed on once."""
