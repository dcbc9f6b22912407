"""The gateway in front of Datalab's on-prem document-conversion container."""

__version__ = "0.1.0"
