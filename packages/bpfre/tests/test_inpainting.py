"""Section 4.7: images with white strokes as training pairs."""

import numpy as np
import pytest
import pyvips
import torch
from bpfre.config import PRESETS
from bpfre.data import limit_pairs, open_face_pairs
from bpfre.inpainting import AlignedFaces
from bpfre.model import BPFRe
from bpfre.train import train
from retouch_common.config import apply_overrides
from retouch_common.data.portraits import mesh_of
from retouch_common.faces.alignment import align
from retouch_common.faces.landmarks import ffhq_square
from retouch_common.faces.mesh import EYES, OUTER_LIPS, landmarks_from_mesh
from retouch_common.inference.demo import astronaut


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven images."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(11):
        pixels = np.full((64, 64, 3), 15 * number + 20, np.uint8)
        pyvips.Image.new_from_array(pixels).write_to_file(str(folder / f"{number:02d}.png"))
    return f"pictures:{folder}"


def open_images(spec, *, size, split="train", seed=0):
    return open_face_pairs(spec, size=size, split=split, seed=seed, task="inpainting")


def test_strokes_are_white_and_the_rest_is_the_image(folder):
    sample = open_images(folder, size=64, split="val")[0]
    painted = sample["mask"][0] > 0
    assert 0.005 < painted.float().mean() < 0.9
    assert (sample["raw"][:, painted] == 1).all()
    assert torch.equal(sample["raw"][:, ~painted], sample["target"][:, ~painted])


def test_strokes_depend_on_seed_and_index_alone(folder):
    pairs = open_images(folder, size=64, split="val")
    assert torch.equal(pairs[1]["mask"], open_images(folder, size=64, split="val")[1]["mask"])
    assert not torch.equal(pairs[1]["mask"], pairs[3]["mask"])
    assert not torch.equal(pairs[1]["mask"], open_images(folder, size=64, split="val", seed=1)[1]["mask"])


def test_a_tenth_of_a_plain_folder_is_held_out(folder):
    numbers = [len(open_images(folder, size=32, split=split)) for split in ("train", "val", "all")]
    assert numbers == [9, 2, 11]


def test_pairs_are_limited_like_those_of_retouching(folder):
    data = open_face_pairs(folder, size=32, split="train", seed=0, task="inpainting")
    streams = limit_pairs(data, fraction=1 / 3, seed=0)
    assert (len(streams.paired), len(streams.raw), len(streams.retouched)) == (3, 6, 6)
    levels = [{round(float(stream[i]["target"].mean()), 3) for i in range(len(stream))} for stream in
              (streams.paired, streams.retouched)]  # fmt: skip
    assert not levels[0] & levels[1]
    assert len({stream.data.seed for stream in (streams.paired, streams.raw, streams.retouched)}) == 3


def test_a_file_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a folder"):
        open_images(f"pictures:{tmp_path / 'nothing'}", size=32)
    with pytest.raises(ValueError, match="not a set of pairs"):
        open_images(str(tmp_path), size=32)


def test_trains(folder, tmp_path):
    config = apply_overrides(PRESETS["tiny"], {"train.task": "inpainting", "train.steps": 2})
    weights = train(config, folder, tmp_path / "run", device="cpu", report=lambda line: None)
    assert BPFRe.from_pretrained(weights).metadata == {"task": "inpainting"}


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Twelve copies of the astronaut, with a mesh that is no more than eyes and a mouth."""
    folder = tmp_path_factory.mktemp("people")
    mesh = np.zeros((468, 2), np.float32)
    mesh[list(EYES[0])], mesh[list(EYES[1])], mesh[list(OUTER_LIPS)] = (203, 118), (247, 112), (228, 160)
    for number in range(12):
        pyvips.Image.new_from_array(astronaut()).write_to_file(str(folder / f"{number:02d}.png"))
    names = [f"{number:02d}.png" for number in range(12)]
    np.savez(folder / "landmarks.npz", names=np.array(names), points=np.stack([mesh] * 12))
    return str(folder)


def test_faces_are_aligned_and_split_by_person(portraits):
    train_faces, held_out = (AlignedFaces(portraits, size=64, split=split, seed=0) for split in ("train", "val"))
    assert not {path.name for path in train_faces.paths} & {path.name for path in held_out.paths}
    face = held_out[0]["target"]
    assert face.shape == (3, 64, 64) and torch.equal(face, held_out[1]["target"])  # the same image, not augmented
    square = ffhq_square(landmarks_from_mesh(mesh_of(held_out.paths[0])))
    assert np.array_equal(face.permute(1, 2, 0).numpy(), align(astronaut(), square, 64))


def test_augmented_faces_stay_near_and_repeat(portraits):
    faces = AlignedFaces(portraits, size=64, split="train", seed=0)
    first, again, other = faces[0]["target"], faces[0]["target"], faces[len(faces)]["target"]
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.min() >= 0 and first.max() <= 1
    sample = open_face_pairs(f"faces:{portraits}", size=64, split="train", seed=0, task="inpainting")[0]
    painted = sample["mask"][0] > 0
    assert torch.equal(sample["raw"][:, ~painted], first[:, ~painted]) and (sample["raw"][:, painted] == 1).all()
    assert len(faces.subset([1, 3])) == 2
