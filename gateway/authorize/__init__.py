"""From a request's head to its caller and the Permit."""
