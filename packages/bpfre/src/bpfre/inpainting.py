"""Section 4.7: inpainting. The network is trained to paint what lies under white brush strokes.

The strokes are painted into the picture and no mask is given: where the blemish-aware maps see them, it paints.
That the paper means GPEN's brush strokes, which it compares with, and not GPEN's blur and noise, is our reading.
"""

import copy
from collections.abc import Sequence, Sized
from typing import Any, cast

import numpy as np
import torch
from retouch_common.data.pairs import ImagePairs
from torch import Tensor
from torch.utils.data import Dataset

from bpfre.strokes import brush_strokes, paint_white

STROKES_SEED = 0x5701  # beside the data set's own: strokes depend on the sample and on nothing else that is drawn


class InpaintingPairs(Dataset[dict[str, Tensor]]):
    """Pictures with white strokes, and without.

    The strokes of sample ``index`` depend on (``seed``, ``index``) alone, so that those of the validation pictures are
    always the same.

    Args:
        data: Pairs, of which the retouched pictures are used.
        seed: Of the strokes.
    """

    def __init__(self, data: Dataset[dict[str, Tensor]], *, seed: int = 0) -> None:
        self.data: Any = data
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
