"""What a document costs: its pages, counted by confined processes."""
