"""From the head of a request to its caller and the Permit."""
