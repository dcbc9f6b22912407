"""TLS between a socket and a protocol of ours, decrypted in turns."""
