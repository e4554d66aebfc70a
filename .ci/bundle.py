"""Put trained weights where a package bundles them: `python .ci/bundle.py TRAINED BUNDLED MEGABYTES`.

The file is copied unchanged and entered in the folder's SHA256SUMS. Weights that are not finite or larger than allowed
are refused, and what was bundled before stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

from retouch_common.files import sha256, write_atomically
from retouch_common.weights import SUMS_FILE, non_finite
from safetensors.torch import load_file


def bundle(trained: Path, bundled: Path, megabytes: float) -> None:
    """Copy a file of weights into a package and renew the checksums of its folder.

    Args:
        trained: What training wrote.
        bundled: Where the package has it.
        megabytes: Largest size allowed, in units of 10^6 bytes.

    Raises:
        ValueError: If the weights are not finite or too large.
        OSError: If a file cannot be read or written.
    """
    size = trained.stat().st_size / 1e6
    if size > megabytes:
        raise ValueError(f"{trained}: {size:.1f} MB, more than the {megabytes:g} MB allowed")
    if bad := non_finite(load_file(trained)):
        raise ValueError(f"{trained}: {', '.join(bad[:3])} not finite")
    write_atomically(bundled, trained.read_bytes())
    files = sorted(bundled.parent.glob("*.safetensors"))
    sums = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
    write_atomically(bundled.parent / SUMS_FILE, sums.encode())


if __name__ == "__main__":
    try:
        bundle(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
