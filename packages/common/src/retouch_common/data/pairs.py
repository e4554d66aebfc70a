"""Pairs of photographs, before and after retouching, as training samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from retouch_common.data.crhd import find_crhd, is_crhd
from retouch_common.data.ffhqr import find_ffhqr, is_ffhqr
from retouch_common.data.pair_files import Pair, Split, find_pairs, has_pairs
from retouch_common.ranges import to_tensor

if TYPE_CHECKING:
    from retouch_common.photo.io import Photo

Fit = Literal["whole", "crop"]


def open_pairs(
    spec: str | Path, *, size: int, split: Split = "train", seed: int = 0, fit: Fit = "whole", **options: Any
) -> Dataset[dict[str, torch.Tensor]]:
    """Open a data set of pairs.

    Args:
        spec: ``DIR`` (with raw/ and target/, or in a recognised layout), ``pairs:DIR``, ``ffhqr:DIR``, ``crhd:DIR`` or
            ``faces:DIR`` (``faces:A,B,C`` for several folders).
        size: Side of the square samples in pixels.
        split: "train", "dev", "val", "test" or "all". "dev" is for validation during training: with ``faces:DIR`` some
            of the people who are not held out, elsewhere the same as "val". Without folders train/raw, val/raw, ...
            every tenth pair by name is held out for "val" and "test", each of which stands for the other where only one
            folder is there.
        seed: Seed of crops and flips.
        fit: See :class:`ImagePairs`; not for faces.
        options: Further options of :class:`retouch_common.data.faces.FaceBlemishes`.

    Returns:
        Samples ``dict(raw, target)``, (3, size, size) float32 in [0, 1].

    Raises:
        ValueError: The folder, the split or an option is wrong.
    """
    if split not in ("train", "dev", "val", "test", "all"):
        raise ValueError(f"split '{split}' is not one of train, dev, val, test, all")
    if str(spec).startswith("faces:"):
        from retouch_common.data.faces import FaceBlemishes

        if split != "train":  # what removes a person's own blemishes is an estimate, and no measure
            options["natural"] = 0.0
        folders, split = str(spec).removeprefix("faces:"), "val" if split == "test" else split
        return FaceBlemishes(folders, size=size, split=split, seed=seed, **options)
    split = "val" if split == "dev" else split
    find, folder = _recognise(str(spec))
    if options:
        raise ValueError(f"{spec}: the option {next(iter(options))} is only for faces:DIR")
    return ImagePairs(find(folder, split), size=size, fit=fit, augment=split == "train", seed=seed)


class ImagePairs(Dataset[dict[str, torch.Tensor]]):
    """Square samples from pairs of photographs.

    Sample ``index`` shows pair ``index % len``; its crop and flip depend on the seed and the whole index (see
    :class:`retouch_common.training.samplers.EndlessBatches`).

    Args:
        pairs: Files before and after.
        size: Side of the samples in pixels, at least 16.
        fit: "whole" resizes the longer side to ``size`` and pads the shorter one on both sides by repeating its edge
            (ABPN's paper does not say how it pads); "crop" cuts at full resolution and pads smaller photos.
        augment: Mirror at random, and place crops at random instead of in the middle.
        seed: Seed of both.

    Raises:
        ValueError: No pairs, a wrong size or an unknown fit.
    """

    def __init__(self, pairs: Sequence[Pair], *, size: int, fit: Fit = "whole", augment: bool = False, seed: int = 0):
        if not pairs:
            raise ValueError("there are no pairs of photographs")
        if size < 16:
            raise ValueError(f"samples of {size} pixels are too small; at least 16 are needed")
        if fit not in ("whole", "crop"):
            raise ValueError(f"fit '{fit}' is not one of whole, crop")
        self.pairs, self.size, self.fit, self.augment, self.seed = list(pairs), size, fit, augment, seed

    @property
    def different(self) -> int:
        """Number of samples that differ by more than augmentation."""
        return len(self)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return ``dict(raw, target)``, (3, size, size) float32 in [0, 1].

        Raises:
            ValueError: A file cannot be read, or the two differ in size; names them.
        """
        generator = np.random.default_rng((self.seed, index))
        photos = self._open(self.pairs[index % len(self.pairs)])
        place = generator.random(2) if self.augment else np.array([0.5, 0.5])
        mirror = self.is_mirrored(index)
        sample = {}
        for name, photo in zip(("raw", "target"), photos, strict=True):
            pixels = self._cut(photo, place) if self.fit == "crop" else _shrink(photo.read(), self.size)
            values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
            sample[name] = to_tensor(_pad(values[:, ::-1] if mirror else values, self.size))
        return sample

    def is_mirrored(self, index: int) -> bool:
        """Return whether a sample is mirrored."""
        generator = np.random.default_rng((self.seed, index))
        generator.random(2)  # the place of the crop
        return self.augment and bool(generator.random() < 0.5)

    def check(self, limit: int | None = None) -> list[str]:
        """Read the headers of the first ``limit`` pairs; return a line for each that cannot be used."""
        faults = []
        for files in self.pairs[:limit]:
            try:
                self._open(files)
            except (ValueError, OSError) as error:
                faults.append(str(error))
        return faults

    def _open(self, files: Pair) -> list[Photo]:
        from retouch_common.photo.io import Photo

        photos = [Photo.open(file) for file in files]
        sizes = [f"{photo.width}x{photo.height}" for photo in photos]
        if sizes[0] != sizes[1]:
            raise ValueError(f"{files[0]} has {sizes[0]} pixels but {files[1]} has {sizes[1]}")
        return photos

    def _cut(self, photo: Photo, place: np.ndarray) -> np.ndarray:
        width, height = min(self.size, photo.width), min(self.size, photo.height)
        x = int(place[0] * (photo.width - width + 1))
        y = int(place[1] * (photo.height - height + 1))
        return photo.read(x, y, width, height)


def _recognise(spec: str) -> tuple[Callable[[Path, Split], list[Pair]], Path]:
    """Return what finds the pairs of ``kind:DIR``, or of a plain folder by its layout, and the folder."""
    kind, colon, rest = spec.partition(":")
    find = {"pairs:": find_pairs, "ffhqr:": find_ffhqr, "crhd:": find_crhd}.get(kind + colon)
    folder = Path(spec if find is None else rest)
    if not folder.is_dir():
        raise ValueError(f"{folder}: is not a folder")
    if find is not None:
        return find, folder
    if any(has_pairs(folder / name) for name in (".", "train", "val", "test")):
        return find_pairs, folder
    if is_crhd(folder):
        return find_crhd, folder
    if is_ffhqr(folder):
        return find_ffhqr, folder
    raise ValueError(
        f"{folder}: not a set of pairs; it needs raw/ and target/, or the folders of FFHQR or CRHD-3K. "
        f"For portraits without a retouched version, use faces:{folder}"
    )


def _shrink(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (H, W, 3) so that the longer side is ``size``; keep the integer type."""
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
