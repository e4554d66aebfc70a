"""Measuring a parser's weights on labelled faces: aligned and as photographed."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from retouch_common.data.pairs import Split
from retouch_common.parsing.data import open_data
from retouch_common.parsing.labels import NUM_CLASSES
from retouch_common.parsing.metrics import confusion, figures
from retouch_common.parsing.parser import FaceParser

__all__ = ["evaluate"]


def evaluate(
    weights: str | os.PathLike[str] | FaceParser,
    data: str | Path,
    split: Split = "val",
    *,
    device: str = "auto",
    precision: str = "fp32",
    limit: int | None = None,
    hard: int = 0,
) -> dict[str, Any]:
    """Parse faces and compare with their labels.

    Args:
        weights: What :class:`FaceParser` takes, or a parser.
        data: What :func:`retouch_common.parsing.data.open_data` reads.
        split: "train", "val", "test" or "all".
        device: "auto", "cpu" or "cuda".
        precision: Of the network, see :class:`FaceParser`.
        limit: So many faces at most.
        hard: So many faces of the split are measured again, strongly augmented; their figures begin with "hard_".

    Returns:
        The figures of :func:`retouch_common.parsing.metrics.figures` over all pixels of all faces, and "faces", their
        number.

    Raises:
        ValueError: Unusable weights, data or options.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    parser = weights if isinstance(weights, FaceParser) else FaceParser(weights, device, precision=precision)
    faces = open_data(str(data), size=parser.size, split=split)
    count = min(len(faces), limit or len(faces))
    found: dict[str, Any] = {"faces": count, **_measured(parser, faces, count)}
    if hard:
        varied = open_data(str(data), size=parser.size, split=split, seed=1, augmentation="strong")
        found |= {f"hard_{name}": value for name, value in _measured(parser, varied, hard).items()}
    return found


def _measured(parser: FaceParser, faces: Any, count: int) -> dict[str, float]:
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    for index in range(count):
        sample = faces[index]
        image = sample["image"].permute(1, 2, 0).contiguous().numpy()
        matrix += confusion(parser(image), sample["labels"])
    return figures(matrix)
