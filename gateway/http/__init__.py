"""HTTP rules for requests and responses: pure."""
