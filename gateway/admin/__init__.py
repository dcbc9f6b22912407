"""The second listener: probes, metrics and the admin API, for operators and never for clients."""
