"""What became of each request: the metrics and the log. Nothing here can slow or fail a request."""
