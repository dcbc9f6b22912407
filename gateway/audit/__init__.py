"""What an auditor asks: who changed what, which secrets hold since when, who read which job first, who was refused.

Noted by whoever acts, written and told in the background.
"""
