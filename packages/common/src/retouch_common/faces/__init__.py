"""Faces: landmarks of the 468-point mesh and the files that hold them."""
