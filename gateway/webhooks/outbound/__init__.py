"""Webhooks that go out: sent at least once, with backoff and a circuit breaker."""
