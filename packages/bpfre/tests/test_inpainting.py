"""Section 4.7: pictures with white strokes as training pairs."""

import numpy as np
import pytest
import pyvips
import torch
from bpfre.config import PRESETS
from bpfre.data import limit_pairs, open_data
from bpfre.train import train
from retouch_common.config import apply_overrides


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven plain pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(11):
        pixels = np.full((64, 64, 3), 15 * number + 20, np.uint8)
        pyvips.Image.new_from_array(pixels).write_to_file(str(folder / f"{number:02d}.png"))
    return f"pictures:{folder}"


def open_pictures(spec, *, size, split="train", seed=0):
    return open_data(spec, size=size, split=split, seed=seed, task="inpainting")


def test_strokes_are_white_and_the_rest_is_the_picture(folder):
    sample = open_pictures(folder, size=64, split="val")[0]
    painted = sample["mask"][0] > 0
    assert 0.005 < painted.float().mean() < 0.9
    assert (sample["raw"][:, painted] == 1).all()
    assert torch.equal(sample["raw"][:, ~painted], sample["target"][:, ~painted])


def test_strokes_depend_on_seed_and_index_alone(folder):
    pairs = open_pictures(folder, size=64, split="val")
    assert torch.equal(pairs[1]["mask"], open_pictures(folder, size=64, split="val")[1]["mask"])
    assert not torch.equal(pairs[1]["mask"], pairs[3]["mask"])
    assert not torch.equal(pairs[1]["mask"], open_pictures(folder, size=64, split="val", seed=1)[1]["mask"])


def test_a_tenth_of_a_plain_folder_is_held_out(folder):
    numbers = [len(open_pictures(folder, size=32, split=split)) for split in ("train", "val", "all")]
    assert numbers == [9, 2, 11]


def test_pairs_are_limited_like_those_of_retouching(folder):
    data = open_data(folder, size=32, split="train", seed=0, task="inpainting")
    streams = limit_pairs(data, fraction=1 / 3, seed=0)
    assert (len(streams.paired), len(streams.raw), len(streams.retouched)) == (3, 6, 6)
    levels = [{round(float(stream[i]["target"].mean()), 3) for i in range(len(stream))} for stream in
              (streams.paired, streams.retouched)]  # fmt: skip
    assert not levels[0] & levels[1]


def test_a_file_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a folder"):
        open_pictures(f"pictures:{tmp_path / 'nothing'}", size=32)
    with pytest.raises(ValueError, match="not a set of pairs"):
        open_pictures(str(tmp_path), size=32)


def test_trains(folder, tmp_path):
    config = apply_overrides(PRESETS["tiny"], {"train.task": "inpainting", "train.steps": 2})
    weights = train(config, folder, tmp_path / "run", device="cpu", report=lambda line: None)
    assert (weights / "model.safetensors").is_file()
