"""Faces: detection, landmarks of every kind, alignment, and where their skin is."""
