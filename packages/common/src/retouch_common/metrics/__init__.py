"""Metrics that the papers share, and the protocols that give their numbers a meaning."""
