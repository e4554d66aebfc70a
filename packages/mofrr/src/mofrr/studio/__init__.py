"""The Restore tool of the studio: the retouching detected on each face, and how much of it is undone."""
