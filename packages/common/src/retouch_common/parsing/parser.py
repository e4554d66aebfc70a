"""Face parsing of single images.

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
from retouch_common.weights import require_finite

ONE_PIECE = tuple(CLASSES.index(name) for name in ("brow_left", "brow_right", "eye_left", "eye_right", "nose"))
OUTLIER = 0.25  # a piece smaller than this share of the largest is a mistake


class FaceParser:
    """A trained parser.

    Args:
        weights: A bundled name, file, folder or hub id, see :meth:`ParsingUNet.from_pretrained`; or a network, which is
            copied.
        device: "auto", "cpu" or "cuda".
        precision: "fp32", "bf16", "fp16" or "auto".

    Attributes:
        model: The network, in evaluation mode and frozen.
        device: Where it computes.
        dtype: Format of the convolutions.

    Raises:
        ValueError: No such weights or device.
    """

    def __init__(
        self, weights: str | os.PathLike[str] | ParsingUNet = "small", device: str = "auto", *, precision: str = "fp32"
    ) -> None:
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        model = copy.deepcopy(weights) if isinstance(weights, ParsingUNet) else ParsingUNet.from_pretrained(weights)
        self.model = model.to(self.device).eval().requires_grad_(False)

    @property
    def size(self) -> int:
        """Side in pixels of the aligned faces that the network was trained on."""
        return self.model.config.size

    def __call__(self, face: np.ndarray) -> np.ndarray:
        """Return the class, 0 to 10, of every pixel as (S, S) uint8; brows, eyes and nose have no outliers.

        Args:
            face: (S, S, 3) float32 in [0, 1], framed by :func:`retouch_common.faces.alignment.portrait_square`; other
                shapes (H, W, 3) are possible, too. ValueError for anything else.
        """
        logits = self._logits(face).cpu().numpy()
        labels = logits.argmax(0)
        for part in ONE_PIECE:
            pieces = label_regions(labels == part)
            sizes = np.bincount(pieces.ravel())[1:]
            outliers = 1 + np.flatnonzero(sizes < OUTLIER * sizes.max(initial=0))
            if len(outliers):
                logits[part][np.isin(pieces, outliers)] = -np.inf
                labels = logits.argmax(0)
        return labels.astype(np.uint8)

    def probabilities(self, face: np.ndarray) -> np.ndarray:
        """Return the probabilities of all classes, (11, S, S) float32; arguments and errors as for a call."""
        return self._logits(face).softmax(0).cpu().numpy()

    @torch.inference_mode()
    def _logits(self, face: np.ndarray) -> torch.Tensor:
        if face.ndim != 3 or face.shape[2] != 3 or face.dtype != np.float32:
            raise ValueError(f"a face is an array (S, S, 3) of float32 in [0, 1], not {face.dtype} {face.shape}")
        image = torch.from_numpy(np.ascontiguousarray(face)).permute(2, 0, 1)[None].to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return require_finite(self.model(image)[0].float())
