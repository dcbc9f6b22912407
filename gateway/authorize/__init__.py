"""authorize."""
