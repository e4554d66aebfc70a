"""Training pairs from plain portraits."""
