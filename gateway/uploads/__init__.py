"""A submit's body, inspected as it streams through: what it asks for, what may go upstream, what it may cost."""
