from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from bundle import bundle
from retouch_common.files import sha256
from safetensors import safe_open
from safetensors.torch import load_file, save_file

PACKAGES = Path(__file__).parent.parent / "packages"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    save_file({"a": torch.ones(1000)}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_the_file_is_copied_unchanged_and_entered_beside_others(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    save_file({"b": torch.ones(1)}, folder / "other.safetensors")
    bundle(trained, folder / "small.safetensors", 1.0)
    assert (folder / "small.safetensors").read_bytes() == trained.read_bytes()
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert lines == [f"{sha256(folder / name)}  {name}" for name in ("other.safetensors", "small.safetensors")]
    assert subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, stdout=subprocess.DEVNULL).returncode == 0


def test_half_precision_is_for_kernels_only_and_keeps_the_header(trained: Path, tmp_path: Path) -> None:
    tensors = {"kernel": torch.full((4, 4), 1 / 3), "variance": torch.tensor([1e-9])}
    save_file(tensors, trained, {"config": "{}"})
    bundled = tmp_path / "small.safetensors"
    bundle(trained, bundled, 1.0, half=True)
    stored = load_file(bundled)
    assert torch.equal(stored["kernel"], tensors["kernel"].half()) and stored["kernel"].dtype == torch.float16
    assert torch.equal(stored["variance"], tensors["variance"])
    with safe_open(bundled, "pt") as opened:
        assert opened.metadata() == {"config": "{}"}
    save_file({"kernel": torch.full((2, 2), 1e6)}, trained)
    with pytest.raises(ValueError, match="kernel not finite"):
        bundle(trained, bundled, 1.0, half=True)


def test_too_large_and_poisoned_weights_are_refused(trained: Path, tmp_path: Path) -> None:
    bundled = tmp_path / "weights" / "small.safetensors"
    bundled.parent.mkdir()
    bundled.write_bytes(b"before")
    with pytest.raises(ValueError, match=r"more than the 0\.001 MB allowed"):
        bundle(trained, bundled, 0.001)
    save_file({"a": torch.tensor([1.0, float("nan")])}, trained)
    with pytest.raises(ValueError, match="a not finite"):
        bundle(trained, bundled, 1.0)
    assert bundled.read_bytes() == b"before"


@pytest.mark.parametrize(
    "sums", sorted(PACKAGES.glob("**/SHA256SUMS")), ids=lambda file: str(file.relative_to(PACKAGES))
)
def test_weights_of_the_repository_have_the_checksums_beside_them(sums: Path) -> None:
    found = "".join(f"{sha256(file)}  {file.name}\n" for file in sorted(sums.parent.glob("*.safetensors")))
    assert sums.read_text() == found
