"""Places and pages of submits while they run; the throttle before the ledger."""
