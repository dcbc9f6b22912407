"""Durable state: keys, reservations, usage, audit. One schema, two engines (SQLite, PostgreSQL)."""
