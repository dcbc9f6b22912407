"""The bench room: the gateway beside nginx, HAProxy and Envoy, in one run, by ratios (docs/benchmarks.md)."""
