"""Losses that the papers share: reconstruction, perceptual, adversarial, region."""
