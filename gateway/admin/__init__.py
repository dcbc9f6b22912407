"""The second listener: probes, metrics and the admin API. For operators only, never for clients."""
