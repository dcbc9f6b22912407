"""Submits' slots and pages while they run; the throttle before the ledger."""
