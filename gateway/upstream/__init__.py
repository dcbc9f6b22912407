"""The upstream side: connections, their pool, the requests sent, and the answers passed on to clients."""
