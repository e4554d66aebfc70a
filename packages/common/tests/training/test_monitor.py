from __future__ import annotations

import io
import json
import math
import shutil
import sys
from types import SimpleNamespace

import pytest
import pyvips
import torch
from retouch_common.training.monitor import Monitor, read_metrics
from retouch_common.training.sheets import draw_sheet, save_sheet
from rich.console import Console


def console(terminal=False):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def run(folder, steps, **options):
    options = {"total_steps": 30, "console": console(), **options}
    with Monitor(folder, **options) as monitor:
        for step in steps:
            monitor.step(step, {"loss": torch.tensor(float(step)), "mse": 2.0 * step})
    return read_metrics(folder / "metrics.jsonl")


def test_lines_hold_the_means_since_the_line_before(tmp_path):
    lines = run(tmp_path, range(1, 26), every=10, total_steps=25, items_per_step=4)
    assert [line["step"] for line in lines] == [10, 20, 25]
    assert [line["loss"] for line in lines] == [5.5, 15.5, 23.0]
    assert [line["mse"] for line in lines] == [11.0, 31.0, 46.0]
    assert all(line["items_per_second"] > 0 and line["seconds"] >= 0 for line in lines)


def test_a_loss_that_not_every_step_has_is_averaged_over_those_that_have_it(tmp_path):
    with Monitor(tmp_path, total_steps=4, every=4, console=console()) as monitor:
        for step in range(1, 5):
            monitor.step(step, {"loss": step} | ({"r1": torch.tensor(10.0 * step)} if step % 2 == 0 else {}))
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    assert line["loss"] == 2.5 and line["r1"] == 30


def test_flush_before_a_checkpoint_makes_resuming_repeat_the_same_lines(tmp_path):
    def values(lines):
        return [(line["step"], line["loss"]) for line in lines]

    def go(folder, steps, **options):
        with Monitor(folder, total_steps=30, console=console(), **options) as monitor:
            for step in steps:
                monitor.step(step, {"loss": torch.tensor(float(step))})
                if step % 15 == 0:
                    monitor.flush(step)  # where the loop saves

    go(tmp_path / "a", range(1, 31))
    go(tmp_path / "b", range(1, 24))  # killed after 23
    with open(tmp_path / "b" / "metrics.jsonl", "a") as file:
        file.write('{"step": 24, "lo')
    go(tmp_path / "b", range(16, 31), start_step=15)
    lines = read_metrics(tmp_path / "b" / "metrics.jsonl")
    assert values(lines) == values(read_metrics(tmp_path / "a" / "metrics.jsonl"))
    assert [line["step"] for line in lines] == [10, 15, 20, 30]
    assert len((tmp_path / "b" / "metrics.jsonl").read_text().splitlines()) == 4


def test_starting_again_from_nothing_drops_the_old_lines(tmp_path):
    run(tmp_path, range(1, 31))
    assert [line["step"] for line in run(tmp_path, range(1, 11))] == [10]


def test_figures_that_are_not_finite_are_valid_json(tmp_path):
    with Monitor(tmp_path, total_steps=1, console=console()) as monitor:
        monitor.log(1, {"psnr": math.inf, "ssim": 0.5, "lpips": torch.tensor(float("nan"))})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "step": 1,
        "psnr": None,
        "ssim": 0.5,
        "lpips": None,
    }


def test_numbers_that_are_not_finite_are_valid_json_after_resuming(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 1e999, "mse": NaN, "psnr": [-Infinity, 2.5]}\n')
    with Monitor(tmp_path, total_steps=9, start_step=1, console=console()):
        pass
    resumed = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert resumed == {"step": 1, "loss": None, "mse": None, "psnr": [None, 2.5]} == read_metrics(path)[0]


def test_a_log_file_gets_few_plain_lines(tmp_path):
    screen = console()
    run(tmp_path, range(1, 31), every=1, console=screen)
    lines = screen.file.getvalue().splitlines()
    assert len(lines) == 2, "the first and the last"
    assert lines[0].startswith("step 1/30 · loss 1 · ")
    assert lines[1].startswith("step 30/30 · loss 30 · ")
    assert lines[1].endswith(" items/s · 0:00:00 left")
    assert "\x1b" not in screen.file.getvalue()
    assert "\r" not in screen.file.getvalue()


def test_a_terminal_gets_a_live_line(tmp_path):
    screen = console(terminal=True)
    run(tmp_path, range(1, 31), console=screen)
    assert "30/30" in screen.file.getvalue()
    assert "items/s" in screen.file.getvalue()


def test_other_processes_write_nothing(tmp_path):
    with Monitor(tmp_path / "run", total_steps=3, enabled=False) as monitor:
        monitor.step(3, {"loss": torch.tensor(1.0)})
        monitor.log(3, {"a": 1.0})
        monitor.sheet(3, [{"raw": torch.zeros(3, 8, 8)}])
        monitor.message("hello")
        monitor.flush(3)
    assert not (tmp_path / "run").exists()


def test_sheet_has_the_step_in_its_name(tmp_path):
    with Monitor(tmp_path, total_steps=3, console=console()) as monitor:
        monitor.sheet(3, [{"raw": torch.zeros(3, 8, 8)}])
    assert (tmp_path / "sheets" / "step-00000003.png").is_file()


def test_tensorboard_events(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, range(1, 31), tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (10, 5.5),
        (20, 15.5),
        (30, 25.5),
    ]


def test_tensorboard_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'retouch-common\[tensorboard\]'"):
        Monitor(tmp_path, total_steps=1, tensorboard=True, console=console())


def test_read_metrics_passes_over_broken_lines(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "a": 2}\n[3]\n{"a": 1}\n\xff\xfe\n{"step": 2')
    assert read_metrics(path) == [{"step": 1, "a": 2}]
    assert "line 5 is not a complete line" in caplog.text


# ---- sheets ----


def test_sheet_shows_the_pictures_in_a_grid_with_titles(tmp_path):
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1).expand(3, 20, 30)
    rows = [{"raw": red, "mask": torch.full((1, 5, 8), 0.5)}, {"raw": red * 0, "out & <b>": red * 7 - 3}]
    save_sheet(tmp_path / "sheet.png", rows)
    image = pyvips.Image.new_from_file(str(tmp_path / "sheet.png")).numpy()
    assert image.shape == (22 + 2 * (20 + 4), 3 * 30 + 2 * 4, 3)
    assert (image[22:42, :30] == [255, 0, 0]).all()
    assert (image[46:66, :30] == 0).all()
    assert (image[22:42, 34:64] == 128).all(), "the mask was brought to the first picture's size"
    assert (image[46:66, 34:64] == 255).all(), "no mask in the second row: blank"
    assert (image[46:66, 68:98] == [255, 0, 0]).all(), "clamped"
    assert all((image[:22, left : left + 30] < 128).any() for left in (0, 34, 68)), "three titles"
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_large_pictures_are_reduced():
    assert draw_sheet([{"raw": torch.rand(3, 100, 400)}], max_side=40).shape == (22 + 10 + 4, 40, 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one row"),
        ([{}], "at least one row"),
        ([{"raw": torch.zeros(2, 8, 8)}], "'raw' has shape"),
        ([{"raw": torch.zeros(1, 3, 8, 8)}], "'raw' has shape"),
    ],
)
def test_sheet_mistakes(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        save_sheet(tmp_path / "sheet.png", rows)
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_that_cannot_be_written_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"sheet\.png"):
        save_sheet(tmp_path / "missing" / "sheet.png", [{"raw": torch.zeros(3, 8, 8)}])


def test_a_full_disk_of_a_sheet_is_named(tmp_path, monkeypatch):
    def fail(*arguments):
        raise pyvips.Error(
            "unable to call pngsave", "wbuffer_write: write failed\nsystem error: No space left on device"
        )

    monkeypatch.setattr(pyvips.Image, "pngsave", fail, raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(OSError, match=r"sheet\.png: cannot be written: the disk is full$"):
        save_sheet(tmp_path / "sheet.png", [{"raw": torch.zeros(3, 8, 8)}])


@pytest.mark.parametrize("line", ['{"step": 1e999}', "[" * 100_000, '{"step": %s}' % ("9" * 5000)])
def test_lines_with_absurd_numbers_or_depth_are_skipped(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1, "loss": 2.0}}\n{line}\n')
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}]
