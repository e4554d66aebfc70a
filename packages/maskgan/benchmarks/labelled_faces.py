"""Aligned faces with labels for the face parsers of Tables 2 and 3.

    python labelled_faces.py FOLDER[,FOLDER…] OUT --size 256 [--parser small]

writes ``OUT/faces/{train,val,test}/{images,labels}/NUMBER.png``, split by person, of portraits with a landmark
template, and with ``--parser`` of all, labelled by that parser; and ``OUT/sources/NUMBER.png``, the training people of
all portraits, who give the generated faces of Table 3 their appearance.
"""

import argparse
from pathlib import Path

import numpy as np
from maskgan.data import open_faces
from retouch_common.parsing.labels import write_labels
from retouch_common.photo.sink import write_png
from retouch_common.ranges import to_unit
from torch import Tensor


def main() -> None:
    """Read the command line and write the faces; existing ones are replaced."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--parser")
    options = parser.parse_args()
    spec = f"faces:{options.folders}"
    for split, name in (("train", "train"), ("dev", "val"), ("test", "test")):
        folder = options.out / "faces" / name
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        faces = open_faces(spec, size=options.size, split=split, seed=0, parser=options.parser)
        for index in range(len(faces)):
            sample = faces[index]
            write_png(folder / "images" / f"{index:04d}.png", _pixels(sample["image"]))
            write_labels(folder / "labels" / f"{index:04d}.png", sample["labels"].numpy().astype(np.uint8))
    sources = open_faces(spec, size=options.size, split="train", seed=0)
    (options.out / "sources").mkdir(exist_ok=True)
    for index in range(len(sources)):
        write_png(options.out / "sources" / f"{index:04d}.png", _pixels(sources[index]["image"]))


def _pixels(image: Tensor) -> np.ndarray:
    return np.ascontiguousarray(to_unit(image).permute(1, 2, 0).numpy())


if __name__ == "__main__":
    main()
