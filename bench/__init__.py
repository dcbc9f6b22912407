"""The bench room: the gateway beside nginx, HAProxy, Envoy and Caddy, in one run, by ratios (docs/benchmarks.md)."""
