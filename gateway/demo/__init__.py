"""What a first run needs besides the gateway: above all a container to stand behind it."""
