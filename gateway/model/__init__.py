"""Frozen values shared by all parts, and the closed vocabulary of reasons."""
