"""Names of the companions that commands write beside a retouched photo."""

from __future__ import annotations

from pathlib import Path

COMPARISON, MASK = ".compare.jpg", ".mask.png"
ATTENTION_COARSE, ATTENTION_REFINED = ".attention-coarse.png", ".attention-refined.png"
DAMAGED = ".damaged.png"
REPORT, REPORT_IMAGES = ".report.json", ".report.png"
RECIPE, CHANGE = ".recipe.json", ".change.tif"
LABELS, ALIGNED, OVERLAY = ".labels.png", ".aligned.png", ".overlay.png"
COMPANION_ENDINGS = (
    COMPARISON, MASK, ATTENTION_COARSE, ATTENTION_REFINED, DAMAGED, REPORT, REPORT_IMAGES, LABELS, ALIGNED, OVERLAY,
    CHANGE,
)  # fmt: skip
"""Endings of all companions; a folder does not stand for such images."""


def sibling_path(target: Path, ending: str) -> Path:
    """Return the file of the same stem with another ending: photo.jpg, ".mask.png" -> photo.mask.png."""
    return target.with_name(target.stem + ending)
