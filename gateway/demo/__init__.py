"""What a first run needs besides the gateway, above all a stand-in container."""
