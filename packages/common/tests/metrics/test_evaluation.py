"""What all papers' evaluations share; the papers' own tests run their commands on it."""

import io
import os

import pytest
import pyvips
import torch
from retouch_common.data.pairs import ImagePairs
from retouch_common.metrics.evaluation import (
    HARD,
    IDENTITY,
    Measured,
    Pairs,
    columns,
    draw_table,
    open_lpips,
    write_evaluation,
)
from retouch_common.metrics.protocols import PROTOCOLS
from retouch_common.metrics.quality import LPIPSUnavailable
from rich.console import Console


def pair(depth):
    """Grey, and grey with a square ``depth`` levels darker."""
    target = torch.full((3, 32, 32), 128 / 255)
    raw = target.clone()
    raw[:, 8:16, 8:16] -= depth / 255
    return raw, target


@pytest.fixture
def measured():
    """Ten pairs, each harder than the one before, the first without a difference; the output halves the error."""
    measured = Measured(resolution=32, rows=(IDENTITY, "network"))
    for number in range(10):
        raw, target = pair(8 * number)
        output = (raw + target) / 2
        measured.add(f"{number}.png", raw, target, {"network": output}, protocols=tuple(PROTOCOLS))
    return measured


def test_pairs_that_do_not_differ_are_apart(measured):
    assert [image["name"] for image in measured.clean] == ["0.png"]
    assert len(measured.images) == 9
    assert measured.target_changes == pytest.approx(64 / 1024)
    assert any("1 pairs whose target equals raw" in line and "100.00 dB" in line for line in measured.footnotes())


def test_half_the_error_is_six_decibels_by_every_protocol(measured):
    for protocol in PROTOCOLS.values():
        gain = measured.means("network")[protocol.psnr] - measured.means(IDENTITY)[protocol.psnr]
        assert gain == pytest.approx(6.02, abs=0.01)


def test_the_hard_subset_is_a_share_of_the_pairs_with_the_lowest_psnr(measured):
    assert [image["name"] for image in measured.hardest(0.2).images] == ["9.png", "8.png"]
    assert [image["name"] for image in measured.hardest(0.01).images] == ["9.png"]
    assert "FFHQR" not in HARD and "raw PSNR" in HARD


def test_no_table_mixes_protocols(measured):
    rows = {row: measured.means(row) for row in measured.rows}
    for name in PROTOCOLS:
        console = Console(width=120, file=io.StringIO())
        console.print(draw_table(name, rows, columns(name)))
        text = console.file.getvalue()
        assert "identity" in text and f"{rows['network'][PROTOCOLS[name].psnr]:.2f}" in text
    assert not {figure for figure, *_ in columns("png8")} & {figure for figure, *_ in columns("wang")} - {"changed"}


def test_names_and_faults_of_files(tmp_path):
    for name, side in (("a", 32), ("b", 32), ("c", 48)):
        for kind in ("raw", "target"):
            (tmp_path / kind).mkdir(exist_ok=True)
            image = pyvips.Image.black(side, side if kind == "raw" else 32, bands=3)
            image.pngsave(str(tmp_path / kind / f"{name}.png"))

    def files():
        found = [(tmp_path / "raw" / f"{name}.png", tmp_path / "target" / f"{name}.png") for name in "abc"]
        return ImagePairs(found, size=40, fit="whole")

    pairs = files()
    opened = Pairs(pairs, limit=2, files=pairs)
    assert [(name, tuple(raw.shape)) for name, raw, _ in opened] == [("a.png", (3, 40, 40)), ("b.png", (3, 40, 40))]
    assert opened.smaller_than(40) == 2 and opened.smaller_than(32) == 0
    assert len(opened) == 2 and len(pairs) == 3  # the caller's data stay as they are
    with pytest.raises(ValueError, match=r"c\.png has 48x48 pixels but"):
        Pairs(pairs, files=pairs)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        Pairs(files(), limit=0)


def test_lpips_is_measured_insisted_on_or_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    notes = []
    assert open_lpips(False, torch.device("cpu"), notes) is None
    assert open_lpips(None, torch.device("cpu"), notes) is None
    assert notes[0] == "LPIPS is disabled" and notes[1].startswith("no LPIPS: LPIPS needs AlexNet's")
    with pytest.raises(LPIPSUnavailable):
        open_lpips(True, torch.device("cpu"), notes)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_evaluation(tmp_path, {"value": 1}, [], max_side=64)
    before = (tmp_path / "evaluation.json").read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_evaluation(tmp_path, {"value": 2}, [], max_side=64)
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]
    assert (tmp_path / "evaluation.json").read_bytes() == before
