"""Demo: retouch scikit-image's astronaut with the bundled weights, offline.

``python -m bpfre.demo [FOLDER]`` writes images, with the blemish maps of both stages, to FOLDER (``outputs/demo``) and
prints a table; see :mod:`retouch_common.inference.demo`.
"""

import os
import sys
from pathlib import Path

from retouch_common.inference.demo import FACE, retouch_astronaut

from bpfre.model import BPFRe
from bpfre.retouch import Retoucher

MAPS = {"blemishes, stage one": ".attention-coarse.png", "blemishes, stage two": ".attention-refined.png"}


def main(folder: str = "outputs/demo", weights: BPFRe | str | os.PathLike[str] = "small") -> None:
    """Retouch, write the images and print the table; ``weights`` are those of :class:`bpfre.Retoucher`."""
    retoucher = Retoucher(weights)

    def retouch(source: Path, target: Path) -> object:
        return retoucher.retouch_file(source, target, face_boxes=[FACE], attention_out=True, overwrite=True)

    retouch_astronaut(f"bpfre {weights}" if isinstance(weights, str) else "bpfre", retouch, folder, companions=MAPS)


if __name__ == "__main__":
    main(*sys.argv[1:])
