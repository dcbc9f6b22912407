"""The keys of token issuers: fetched, read from files, kept fresh."""
