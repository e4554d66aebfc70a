"""Face parsing for users: a picture of a face in, its parts out.

parse = FaceParser("small")
labels = parse(align(photo, portrait_square(face, *photo.shape[:2]), 256))
"""

import copy
import os

import numpy as np
import torch

from retouch_common.devices import resolve_device, resolve_precision
from retouch_common.parsing.labels import CLASSES
from retouch_common.parsing.model import ParsingUNet
from retouch_common.photo.filters import label_regions

__all__ = ["FaceParser"]

ONE_PIECE = tuple(CLASSES.index(name) for name in ("brow_left", "brow_right", "eye_left", "eye_right", "nose"))
STRAY = 0.25  # a piece of these smaller than this share of the largest is elsewhere by mistake


class FaceParser:
    """A trained parser.

    Attributes:
        model: The network, in evaluation mode and frozen.
        device: Where it computes.
        dtype: Of the convolutions.
    """

    def __init__(
        self, weights: str | os.PathLike[str] | ParsingUNet = "small", device: str = "auto", *, precision: str = "fp32"
    ) -> None:
        """Load it.

        Args:
            weights: A bundled name, file, folder or hub id, see :meth:`ParsingUNet.from_pretrained`; or a network,
                of which a copy is taken.
            device: "auto", "cpu" or "cuda".
            precision: "fp32", "bf16", "fp16" or "auto".

        Raises:
            ValueError: No such weights, or no such device.
        """
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        model = copy.deepcopy(weights) if isinstance(weights, ParsingUNet) else ParsingUNet.from_pretrained(weights)
        self.model = model.to(self.device).eval().requires_grad_(False)

    @property
    def size(self) -> int:
        """Side in pixels of the aligned faces that the network was trained on."""
        return self.model.config.size

    def __call__(self, face: np.ndarray) -> np.ndarray:
        """Parse a face.

        Args:
            face: (S, S, 3) float32 in [0, 1], framed as :func:`retouch_common.faces.alignment.portrait_square` says;
                other shapes (H, W, 3) are taken, too.

        Returns:
            (S, S) uint8, classes 0 to 10: in every pixel the likeliest, but brows, eyes and nose have no strays.

        Raises:
            ValueError: It is no such picture.
        """
        logits = self._logits(face).cpu().numpy()
        labels = logits.argmax(0)
        for part in ONE_PIECE:
            pieces = label_regions(labels == part)
            sizes = np.bincount(pieces.ravel())[1:]
            strays = 1 + np.flatnonzero(sizes < STRAY * sizes.max(initial=0))
            if len(strays):
                logits[part][np.isin(pieces, strays)] = -np.inf
                labels = logits.argmax(0)
        return labels.astype(np.uint8)

    def probabilities(self, face: np.ndarray) -> np.ndarray:
        """How likely every class is in every pixel.

        Args:
            face: As for calling.

        Returns:
            (11, S, S) float32; the classes of a pixel add up to 1.

        Raises:
            ValueError: It is no such picture.
        """
        return self._logits(face).softmax(0).cpu().numpy()

    @torch.inference_mode()
    def _logits(self, face: np.ndarray) -> torch.Tensor:
        if face.ndim != 3 or face.shape[2] != 3 or face.dtype != np.float32:
            raise ValueError(f"a face is an array (S, S, 3) of float32 in [0, 1], not {face.dtype} {face.shape}")
        image = torch.from_numpy(np.ascontiguousarray(face)).permute(2, 0, 1)[None].to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model(image)[0].float()
