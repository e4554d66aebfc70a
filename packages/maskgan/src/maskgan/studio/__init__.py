"""The studio: a page on this computer where a face's mask is painted and the face follows."""
