"""Reports each request in the metrics and the log. Nothing here can slow or fail a request."""
