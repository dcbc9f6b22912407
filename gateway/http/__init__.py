"""The rules of HTTP: pure."""
