"""Put trained weights where a package bundles them: `python .ci/bundle.py TRAINED BUNDLED MEGABYTES [--half]`.

The file is copied unchanged, or with `--half` with its matrices and kernels in half precision, and entered in the
folder's SHA256SUMS. Weights that are not finite or larger than allowed are refused, and what was bundled before stays.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from retouch_common.files import sha256, write_atomically
from retouch_common.weights import SUMS_FILE, non_finite
from safetensors import safe_open
from safetensors.torch import load, save


def bundle(trained: Path, bundled: Path, megabytes: float, *, half: bool = False) -> None:
    """Copy a file of weights into a package and renew the checksums of its folder.

    Args:
        trained: What training wrote.
        bundled: Where the package has it.
        megabytes: Largest size allowed, in units of 10^6 bytes.
        half: Store tensors of two and more dimensions in half precision; a network loads them in its own.

    Raises:
        ValueError: If the weights are not finite or too large.
        OSError: If a file cannot be read or written.
    """
    data = _halved(trained) if half else trained.read_bytes()
    size = len(data) / 1e6
    if size > megabytes:
        raise ValueError(f"{trained}: {size:.1f} MB, more than the {megabytes:g} MB allowed")
    if bad := non_finite(load(data)):
        raise ValueError(f"{trained}: {', '.join(bad[:3])} not finite")
    write_atomically(bundled, data)
    files = sorted(bundled.parent.glob("*.safetensors"))
    sums = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
    write_atomically(bundled.parent / SUMS_FILE, sums.encode())


def _halved(file: Path) -> bytes:
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
        metadata = opened.metadata()
    return save({name: value.half() if value.ndim > 1 else value for name, value in tensors.items()}, metadata)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("trained", type=Path)
    parser.add_argument("bundled", type=Path)
    parser.add_argument("megabytes", type=float)
    parser.add_argument("--half", action="store_true")
    options = parser.parse_args()
    try:
        bundle(options.trained, options.bundled, options.megabytes, half=options.half)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
