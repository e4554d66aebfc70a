"""ABPN."""
