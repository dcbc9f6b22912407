"""How much is allowed: pure arithmetic on token buckets and counts.

Of submits the ledger keeps these, of all else the classes here. The throttle before the ledger, which lets only some
submits of an account ask at once, is admission/throttle.py.
"""
