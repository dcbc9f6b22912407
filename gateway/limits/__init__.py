"""How much is allowed: pure arithmetic in buckets, held by admission."""
