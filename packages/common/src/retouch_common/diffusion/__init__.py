"""Diffusion: noise schedules and a DDIM sampler."""
