"""Outbound webhooks: delivered at least once, with backoff and a circuit breaker."""
