"""The public listener: the accept loop, TLS, and aiohttp's parser with deadlines of our own."""
