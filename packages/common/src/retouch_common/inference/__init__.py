"""Networks applied to photographs: faces planned, retouched and pasted back, and many files at once."""
