"""Webhooks, outbound and inbound. Receivers need only `verify`; the rest is internal to the gateway."""

from gateway.webhooks.verify import verify

__all__ = ["verify"]
