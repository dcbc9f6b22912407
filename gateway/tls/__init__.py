"""Certificates: TLS contexts by SNI, the CAs for client certificates, development certificates."""
