"""Real photographs in, real photographs out: files of any size, faces, and the windows to work in."""
