"""maskgan: planned, and empty so far; see the README."""
