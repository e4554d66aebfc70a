"""Pairs for Table 3: blemishes drawn on square crops of portraits of held-out people.

    python drawn_pairs.py FOLDER[,FOLDER…] OUT --side 4096 --sizes 512,1024,2048,4096

writes ``OUT/raw/NAME.png`` and ``OUT/target/NAME.png`` of ``side`` pixels, and the first raw image in every size as
``OUT/SIZE.png``. Portraits smaller than that are enlarged.
"""

import argparse
from pathlib import Path

import numpy as np
import pyvips
from retouch_common.photo.filters import resize
from retouch_common.ranges import from_levels, to_levels
from retouch_common.testing.portraits import held_out, with_blemishes


def main() -> None:
    """Read the command line and write the pairs; existing ones are replaced."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders")
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--sizes", default="512,1024,2048,4096")
    options = parser.parse_args()
    for name in ("raw", "target"):
        (options.out / name).mkdir(parents=True, exist_ok=True)
    for seed, portrait in enumerate(held_out(options.folders, side=options.side)):
        name = portrait.name.replace("/", "-")
        raw = with_blemishes(portrait, seed)
        _write(options.out / "raw" / f"{name}.png", raw)
        _write(options.out / "target" / f"{name}.png", portrait.clean)
        if seed == 0:
            for size in map(int, options.sizes.split(",")):
                smaller = to_levels(resize(from_levels(raw), size, size, antialias=True).clip(0, 1))
                _write(options.out / f"{size}.png", smaller)


def _write(file: Path, levels: np.ndarray) -> None:
    pyvips.Image.new_from_array(np.ascontiguousarray(levels)).write_to_file(str(file))


if __name__ == "__main__":
    main()
