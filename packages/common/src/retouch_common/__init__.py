"""What the face-retouching packages share."""
