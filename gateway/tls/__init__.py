"""Certificates: contexts by SNI, the CAs of clients, those for development."""
