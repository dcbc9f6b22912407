"""The public listener: accepting, TLS, and aiohttp's parser behind deadlines of our own."""
