"""The studio: a local web page where a face's mask is painted and the face is rendered live."""
