"""Put trained weights where a package bundles them."""

from __future__ import annotations

from pathlib import Path

from retouch_common.files import sha256, write_atomically
from retouch_common.weights import SUMS_FILE, non_finite
from safetensors import safe_open
from safetensors.torch import load, save


def bundle(trained: Path, bundled: Path, megabytes: float, *, half: bool = False) -> None:
    """Copy a file of weights into a package and renew the checksums of its folder.

    Weights that are refused leave what was bundled before.

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
