"""Webhooks, out and in. For receivers there is `verify`; what else is here is the gateway's own."""

from gateway.webhooks.verify import verify

__all__ = ["verify"]
