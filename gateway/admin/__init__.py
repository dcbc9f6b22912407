"""The second listener: probes and metrics, for operators and never for clients."""
