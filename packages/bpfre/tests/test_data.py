"""Section 3.2: which images are paired and which are not."""

import numpy as np
import pytest
import pyvips
from bpfre.data import limit_pairs, open_face_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty pairs whose grey level tells them apart: raw 10 n, target 10 n + 5."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, extra in (("raw", 0), ("target", 5)):
        (folder / name).mkdir()
        for number in range(20):
            pixels = np.full((40, 40, 3), 10 * number + extra, np.uint8)
            pyvips.Image.new_from_array(pixels).write_to_file(str(folder / name / f"{number:02d}.png"))
    return folder


def levels(stream, name):
    return {round(float(stream[index][name].mean()) * 255) for index in range(len(stream))}


def test_a_tenth_stays_paired_and_the_rest_is_taken_apart(folder):
    data = open_face_pairs(str(folder), size=32, split="train", seed=0)
    streams = limit_pairs(data, fraction=1 / 3, seed=0)
    assert len(data) == 18 and len(streams.paired) == 6 and len(streams.raw) == len(streams.retouched) == 12
    paired = levels(streams.paired, "raw")
    assert {level + 5 for level in paired} == levels(streams.paired, "target")
    assert not paired & levels(streams.raw, "raw")
    assert {level + 5 for level in levels(streams.raw, "raw")} == levels(streams.retouched, "target")
    assert streams.lists["raw"] != streams.lists["retouched"]


def test_lists_depend_on_the_seed_alone(folder):
    data = open_face_pairs(str(folder), size=32, split="train", seed=0)
    assert limit_pairs(data, fraction=0.2, seed=1).lists == limit_pairs(data, fraction=0.2, seed=1).lists
    assert limit_pairs(data, fraction=0.2, seed=1).lists != limit_pairs(data, fraction=0.2, seed=2).lists


def test_smaller_shares_lie_within_larger_ones(folder):
    """So that a sweep over shares adds pairs and takes none away."""
    data = open_face_pairs(str(folder), size=32, split="train", seed=0)
    few, many = (set(limit_pairs(data, fraction=f, seed=0).lists["paired"]) for f in (0.2, 0.5))
    assert few < many


@pytest.mark.parametrize("fraction", [1.0, 0.001])
def test_no_stream_is_ever_empty(folder, fraction):
    data = open_face_pairs(str(folder), size=32, split="train", seed=0)
    streams = limit_pairs(data, fraction=fraction, seed=0)
    assert len(streams.paired) == (18 if fraction == 1 else 1)
    assert len(streams.raw) == len(streams.retouched) == (18 if fraction == 1 else 17)
