"""The upstream side: connections, their pool, what is sent, and what of the answer reaches the client."""
