"""Pairs of photographs, before and after retouching, as training samples.

:func:`open_pairs` understands a folder with ``raw/`` and ``target/``, the published layouts of FFHQR
(:mod:`retouch_common.data.ffhqr`) and CRHD-3K (:mod:`retouch_common.data.crhd`), and ``faces:DIR``, plain
portraits that become pairs on the fly (:mod:`retouch_common.data.faces`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from retouch_common.data.crhd import find_crhd, is_crhd
from retouch_common.data.ffhqr import find_ffhqr, is_ffhqr
from retouch_common.data.pair_files import Pair, Split, find_pairs, has_pairs

Fit = Literal["whole", "crop"]


def open_pairs(
    spec: str | Path, *, size: int, split: Split = "train", seed: int = 0, fit: Fit = "whole", **options: Any
) -> Dataset[dict[str, torch.Tensor]]:
    """Open a data set of pairs.

    Args:
        spec: ``DIR`` (with raw/ and target/, or a layout that is recognised), ``pairs:DIR``, ``ffhqr:DIR``,
            ``crhd:DIR`` or ``faces:DIR`` (``faces:A,B,C`` for several folders).
        size: side of the square samples in pixels.
        split: "train", "dev", "val", "test" or "all". "dev" is for validation while training: of ``faces:DIR`` some of
            the people who are not held out, elsewhere the same as "val". A folder may hold train/raw, train/target,
            val/raw, ...; in one that does not, every tenth pair (position 0, 10, ... by name) is held out for "val"
            and "test".
        seed: of crops and flips.
        fit: see :class:`ImagePairs`; not for faces.
        options: further options of :class:`retouch_common.data.faces.FaceBlemishes`.

    Returns:
        Samples ``dict(raw, target[, mask])``, (3, size, size) and (1, size, size) float32 in [0, 1].

    Raises:
        ValueError: what is wrong with the folder, the split or an option.
    """
    if split not in ("train", "dev", "val", "test", "all"):
        raise ValueError(f"split '{split}' is not one of train, dev, val, test, all")
    kind, folder = _recognise(str(spec))
    if kind == "faces":
        from retouch_common.data.faces import FaceBlemishes

        return FaceBlemishes(
            str(spec).partition(":")[2], size=size, split="val" if split == "test" else split, seed=seed, **options
        )
    split = "val" if split == "dev" else split
    if options:
        raise ValueError(f"{spec}: the option {next(iter(options))} is only for faces:DIR")
    find = {"ffhqr": find_ffhqr, "crhd": find_crhd}.get(kind, find_pairs)
    return ImagePairs(find(folder, split), size=size, fit=fit, augment=split == "train", seed=seed)


class ImagePairs(Dataset[dict[str, torch.Tensor]]):
    """Square samples from pairs of photographs.

    Sample ``index`` shows pair ``index % len``; where it is cropped and whether it is mirrored depends on
    the seed and the whole index, which may exceed the length (see
    :class:`retouch_common.training.samplers.EndlessBatches`).
    """

    def __init__(self, pairs: Sequence[Pair], *, size: int, fit: Fit = "whole", augment: bool = False, seed: int = 0):
        """Describe the samples.

        Args:
            pairs: files before and after.
            size: side of the samples in pixels.
            fit: "whole" brings the longer side to ``size`` and pads the shorter one by repeating its edge,
                on both sides alike (how the ABPN paper makes its 1024² images); "crop" cuts at the photo's
                own resolution and pads where the photo is smaller.
            augment: mirror at random, and place crops at random instead of in the middle.
            seed: of both.

        Raises:
            ValueError: no pairs, a size below 16, an unknown fit.
        """
        if not pairs:
            raise ValueError("there are no pairs of photographs")
        if size < 16:
            raise ValueError(f"samples of {size} pixels are too small; at least 16 are needed")
        if fit not in ("whole", "crop"):
            raise ValueError(f"fit '{fit}' is not one of whole, crop")
        self.pairs = list(pairs)
        self.size = size
        self.fit = fit
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return ``dict(raw, target)``, (3, size, size) float32 in [0, 1].

        Raises:
            ValueError: a file cannot be read (named), or the two differ in size (both named).
        """
        from retouch_common.photo.io import Photo

        generator = np.random.default_rng((self.seed, index))
        files = self.pairs[index % len(self.pairs)]
        photos = [Photo.open(file) for file in files]
        if (photos[0].width, photos[0].height) != (photos[1].width, photos[1].height):
            raise ValueError(_different(files, photos))
        place = generator.random(2) if self.augment else np.array([0.5, 0.5])
        mirror = self.augment and generator.random() < 0.5
        sample = {}
        for name, photo in zip(("raw", "target"), photos, strict=True):
            pixels = self._cut(photo, place) if self.fit == "crop" else _shrink(photo.read(), self.size)
            values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
            values = _pad(values[:, ::-1] if mirror else values, self.size)
            sample[name] = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
        return sample

    def check(self) -> list[str]:
        """Read the header of every file; return a line for each pair that cannot be used."""
        from retouch_common.photo.io import Photo

        faults = []
        for files in self.pairs:
            try:
                photos = [Photo.open(file) for file in files]
                if (photos[0].width, photos[0].height) != (photos[1].width, photos[1].height):
                    faults.append(_different(files, photos))
            except (ValueError, OSError) as error:
                faults.append(str(error))
        return faults

    def _cut(self, photo: Any, place: np.ndarray) -> np.ndarray:
        width, height = min(self.size, photo.width), min(self.size, photo.height)
        x = int(place[0] * (photo.width - width + 1))
        y = int(place[1] * (photo.height - height + 1))
        return photo.read(x, y, width, height)


def _recognise(spec: str) -> tuple[str, Path]:
    """Split ``kind:DIR``, or find out the kind of a plain folder."""
    kind, colon, rest = spec.partition(":")
    if colon and kind in ("pairs", "ffhqr", "crhd", "faces"):
        folder = Path(rest)
    else:
        kind, folder = "", Path(spec)
    if kind == "faces":
        return kind, folder  # or several, which find_portraits looks for
    if not folder.is_dir():
        raise ValueError(f"{folder}: is not a folder")
    if kind:
        return kind, folder
    if any(has_pairs(folder / name) for name in (".", "train", "val", "test")):
        return "pairs", folder
    if is_crhd(folder):
        return "crhd", folder
    if is_ffhqr(folder):
        return "ffhqr", folder
    raise ValueError(
        f"{folder}: not a set of pairs; it needs raw/ and target/, or the folders of FFHQR or CRHD-3K. "
        f"For plain portraits say faces:{folder}"
    )


def _shrink(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (H, W, 3) so that the longer side is ``size``; integers stay integers of their type."""
    import pyvips

    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    if scale == 1:
        return pixels
    image = pyvips.Image.new_from_array(pixels)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    resized = image.resize(new_width / width, vscale=new_height / height, kernel="cubic")
    return resized.numpy()


def _pad(pixels: np.ndarray, size: int) -> np.ndarray:
    """Repeat the edges of (h, w, 3), h and w at most ``size``, up to (size, size, 3)."""
    rows, columns = size - pixels.shape[0], size - pixels.shape[1]
    before = (rows // 2, columns // 2)
    return np.pad(pixels, ((before[0], rows - before[0]), (before[1], columns - before[1]), (0, 0)), mode="edge")


def _different(files: Pair, photos: Sequence[Any]) -> str:
    sizes = [f"{photo.width}x{photo.height}" for photo in photos]
    return f"{files[0]} has {sizes[0]} pixels but {files[1]} has {sizes[1]}"
