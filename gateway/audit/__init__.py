"""The audit trail: who changed what, which secrets are in use since when, who first read a job, who was refused.

The code that acts notes it; a background task writes it to the ledger and to the log.
"""
