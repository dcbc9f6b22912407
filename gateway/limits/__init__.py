"""How much is allowed: pure arithmetic on token buckets and counts.

Of submits the ledger keeps these, of all else the classes here.
"""
