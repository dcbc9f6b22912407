"""Who calls. Each authenticator answers with an Identity, with None for "not mine", or raises a refusal."""
