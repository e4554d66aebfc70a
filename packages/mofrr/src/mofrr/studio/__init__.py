"""The Restore tool of the studio: what was found on each face, and how much of it is undone."""
