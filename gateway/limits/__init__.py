"""How much is allowed: pure arithmetic on token buckets and counts, which admission keeps."""
