"""Demo: retouch scikit-image's astronaut with the bundled weights, offline.

``python -m abpn.demo [FOLDER]`` writes images to FOLDER (``outputs/demo``) and prints a table; see
:mod:`retouch_common.inference.demo`.
"""

import sys
from pathlib import Path

from retouch_common.inference.demo import FACE, retouch_astronaut

from abpn.retouch import Retoucher


def main(folder: str = "outputs/demo") -> None:
    """Retouch, write the images and print the table."""
    retoucher = Retoucher("small")

    def retouch(source: Path, target: Path) -> object:
        return retoucher.retouch_file(source, target, region="faces", face_boxes=[FACE], overwrite=True)

    retouch_astronaut("abpn small", retouch, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
