"""Authentication. Each authenticator returns an Identity, returns None for "not mine", or raises a refusal."""
