"""Section 4.7: inpainting. The network is trained to paint what lies under white brush strokes.

The strokes are painted into the picture and no mask is given: where the blemish-aware maps see them, it paints.
That the paper means GPEN's brush strokes, which it compares with, and not GPEN's blur and noise, is our reading.
"""

import copy
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from retouch_common.data.pair_files import Split
from retouch_common.data.pairs import ImagePairs, open_pairs
from torch import Tensor
from torch.utils.data import Dataset

from bpfre.strokes import brush_strokes, paint_white

STROKES_SEED = 0x5701  # beside the data set's own: strokes depend on the sample and on nothing else that is drawn


class InpaintingPairs(Dataset[dict[str, Tensor]]):
    """Pictures with white strokes, and without.

    The strokes of sample ``index`` depend on (``seed``, ``index``) alone, so that those of the validation pictures are
    always the same.

    Args:
        spec: ``pictures:DIR``, a folder of plain pictures, or what :func:`retouch_common.data.pairs.open_pairs` reads,
            of which the retouched pictures are used.
        size: Side of the samples in pixels.
        split: "train", "val" (every tenth picture), "test" or "all".
        seed: Of crops, flips and strokes.

    Raises:
        ValueError: There are no pictures.
    """

    def __init__(self, spec: str | Path, *, size: int, split: Split = "train", seed: int = 0) -> None:
        self.data: Any = _open(str(spec), size=size, split=split, seed=seed)
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(cast(Sized, self.data))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``dict(raw, target, mask)``, (3, S, S), (3, S, S) and (1, S, S), float32 in [0, 1]."""
        target = self.data[index]["target"]
        mask = brush_strokes(target.shape[1], target.shape[2], np.random.default_rng((STROKES_SEED, self.seed, index)))
        raw = paint_white(target.permute(1, 2, 0).numpy(), mask)
        return {
            "raw": torch.from_numpy(raw).permute(2, 0, 1).contiguous(),
            "target": target,
            "mask": torch.from_numpy(mask)[None],
        }

    def subset(self, positions: Sequence[int]) -> "InpaintingPairs":
        """The same with only the pictures at these positions."""
        part = copy.copy(self)
        if isinstance(self.data, ImagePairs):
            data = copy.copy(self.data)
            data.pairs = [self.data.pairs[position] for position in positions]
            part.data = data
        else:
            part.data = self.data.subset(positions)
        return part


def _open(spec: str, *, size: int, split: Split, seed: int) -> Dataset[Any]:
    """Pairs, or plain pictures that stand for both sides."""
    if spec.startswith("faces:"):
        from bpfre.data import open_data

        return open_data(spec, size=size, split=split, seed=seed)
    if not spec.startswith("pictures:"):
        return open_pairs(spec, size=size, split=split, seed=seed, fit="whole")
    from retouch_common.data.portraits import find_portraits

    pictures = find_portraits(spec.removeprefix("pictures:"))
    held_out = set(pictures[::10]) if len(pictures) > 1 else set()
    if split != "all":
        pictures = [picture for picture in pictures if (picture in held_out) == (split != "train")]
    return ImagePairs(
        [(picture, picture) for picture in pictures], size=size, fit="whole", augment=split == "train", seed=seed
    )
