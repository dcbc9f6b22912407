"""The nouns, and the closed vocabulary of reasons."""
