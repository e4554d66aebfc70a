"""The Edit tool of the studio: a face's mask is painted and the face is rendered live."""
