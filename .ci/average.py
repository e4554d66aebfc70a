"""Average the weights of two runs: `python .ci/average.py FIRST SECOND SHARE OUT`.

OUT gets (1 - SHARE) FIRST + SHARE SECOND, with the header of SECOND, which must have been trained from FIRST: between
weights so related the loss is lower than at either (Wortsman et al. "Robust fine-tuning of zero-shot models." CVPR
2022). All three are files of safetensors.
"""

from __future__ import annotations

import sys
from pathlib import Path

from retouch_common.files import write_atomically
from safetensors import safe_open
from safetensors.torch import load_file, save


def average(first: Path, second: Path, share: float, out: Path) -> None:
    """Write the weighted mean of the floating-point tensors of two files, and the others of the second one.

    Raises:
        ValueError: If the files have tensors of other names or shapes, or the share is not in [0, 1].
        OSError: If a file cannot be read or written.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of {second} must lie between 0 and 1, not at {share}")
    old, new = load_file(first), load_file(second)
    if {name: value.shape for name, value in old.items()} != {name: value.shape for name, value in new.items()}:
        raise ValueError(f"{first} and {second} are weights of different networks")
    with safe_open(second, "pt") as opened:
        metadata = opened.metadata()
    mean = {name: old[name].lerp(value, share) if value.is_floating_point() else value for name, value in new.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, save(mean, metadata))


if __name__ == "__main__":
    average(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
