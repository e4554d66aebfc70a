"""``abpn-retouch --recipe``: what the studio writes is replayed; without steps it is the command's own result."""

import numpy as np
import pytest
import pyvips
import torch
from abpn.cli import retouch
from abpn.model import ABPN
from abpn.retouch import Retoucher
from click.testing import CliRunner
from retouch_common.faces.face import Face
from retouch_common.inference.recipe import Recipe, apply_recipe
from retouch_common.photo.io import Photo

BOX = (110.0, 80.0, 60.0, 80.0)
FACE = Face(BOX, 1.0, np.full((5, 2), np.nan, np.float32))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = ABPN.from_preset("tiny")
    for parameter in model.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, 0, 0.05)
    folder = tmp_path_factory.mktemp("weights")
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def retoucher(weights):
    return Retoucher(weights, device="cpu")


@pytest.fixture(params=["uchar", "ushort"])
def photo(tmp_path, request):
    y, x = np.mgrid[:260, :340]
    pixels = 0.55 + 0.25 * np.sin(x[..., None] / 31 + y[..., None] / 47 + np.arange(3))
    pixels = (pixels + np.random.default_rng(3).normal(0, 0.02, pixels.shape)).clip(0, 1)
    levels = (pixels * 65535).astype(np.uint16) if request.param == "ushort" else (pixels * 255).astype(np.uint8)
    path = tmp_path / "anna.png"
    space = "rgb16" if request.param == "ushort" else "srgb"
    pyvips.Image.new_from_array(levels).copy(interpretation=space).pngsave(str(path))
    return path


def run(*arguments):
    result = CliRunner().invoke(retouch, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def make(photo, retoucher, *steps):
    opened = Photo.open(photo)
    return Recipe(
        network="abpn", width=opened.width, height=opened.height, faces=(FACE,), steps=steps,
        weights=retoucher.weights_sha256, time="2026-01-02T03:04:05+00:00",
    )  # fmt: skip


def test_without_steps_it_is_what_the_command_does(photo, weights, retoucher, tmp_path):
    recipe = make(photo, retoucher).write(photo)
    box = ",".join(map(str, BOX))
    assert run(photo, "-o", tmp_path / "plain.png", "--weights", weights, "--face-box", box).exit_code == 0
    result = run(photo, "-o", tmp_path / "replayed.png", "--weights", weights, "--recipe", recipe)
    assert result.exit_code == 0 and "1 face, 0 steps of the recipe" in result.output
    plain, replayed = (Photo.open(tmp_path / name).read() for name in ("plain.png", "replayed.png"))
    assert (plain != Photo.open(photo).read()).any()
    np.testing.assert_array_equal(replayed, plain)


def test_the_command_writes_the_bytes_of_the_function(photo, weights, retoucher, tmp_path):
    steps = (
        {"step": "strength", "value": 0.6},
        {"step": "protect", "radius": 9.5, "points": [[130, 110], [141.5, 120]]},
    )
    recipe = make(photo, retoucher, *steps)
    file = recipe.write(photo)
    apply_recipe(recipe, retoucher, photo, tmp_path / "function.png")
    assert run(photo, "-o", tmp_path / "command.png", "--weights", weights, "--recipe", file).exit_code == 0
    assert (tmp_path / "function.png").read_bytes() == (tmp_path / "command.png").read_bytes()
    before, after = Photo.open(photo).read(), Photo.open(tmp_path / "command.png").read()
    assert (before != after).any() and (before == after)[105:116, 125:136].all()


def test_other_ways_to_retouch_are_refused_beside_it(photo, weights, retoucher, tmp_path):
    recipe = make(photo, retoucher).write(photo)
    for given, words in (
        (("--strength", "0.5"), "leave out strength"),
        (("--face-box", "110,80,60,80"), "leave out face box"),
        (("--mask-out",), "leave out mask out"),
    ):
        result = run(photo, "-o", tmp_path / "x.png", "--weights", weights, "--recipe", recipe, *given)
        assert result.exit_code == 1 and words in result.output
    result = run(photo, "-o", recipe.with_suffix(".png"), "--weights", weights, "--recipe", photo)
    assert result.exit_code == 1 and "anna.png: " in result.output and "is not JSON" in result.output
