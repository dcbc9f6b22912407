"""A document's cost: its pages, counted by sandboxed processes."""
