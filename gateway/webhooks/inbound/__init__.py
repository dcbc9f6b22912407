"""Inbound webhooks: verified, and forwarded once."""
