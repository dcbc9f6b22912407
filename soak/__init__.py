"""How a quiet tenant fares while others attack: `make soak ARGS=neighbours`. Needs what `gateway demo` needs."""
