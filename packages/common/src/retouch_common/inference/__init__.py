"""Networks on photographs: faces are located, retouched and pasted back, for many files."""
