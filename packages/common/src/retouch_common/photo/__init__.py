"""Photographs as files: pixels, formats and metadata of files of any size, read and written by rows."""
