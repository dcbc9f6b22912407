"""Inspects a submit's body while it streams: what it asks for, what may go upstream, what it may cost."""
