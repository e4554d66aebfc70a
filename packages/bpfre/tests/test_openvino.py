"""``bpfre-retouch`` and ``bpfre-inpaint`` with ``--backend openvino``."""

import sys

import numpy as np
import pytest
import torch
from bpfre.cli import inpaint, retouch
from bpfre.inference import InferenceBPFRe
from bpfre.retouch import Retoucher
from retouch_common.devices import resolve_precision
from retouch_common.inference import openvino
from retouch_common.inference.demo import astronaut
from retouch_common.testing.photos import make_photo, run_command

BOX = ("--face-box", "110,80,60,80")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def installed(monkeypatch, cache):
    if not openvino.is_installed() or resolve_precision("auto", torch.device("cpu")) != torch.bfloat16:
        pytest.skip("openvino is not installed, or this CPU does not compute in bf16")
    monkeypatch.setenv("XDG_CACHE_HOME", cache)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("changes", "stage"), [({}, "refined"), ({"attention": False}, "coarse")])
def test_all_outputs_are_those_of_torch(busy_model, changes, stage):
    model = busy_model(**changes)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = InferenceBPFRe(model, "cpu", "fp32")(image, stage=stage)
    found = InferenceBPFRe(model, "cpu", backend="openvino")(image, stage=stage)
    torch.testing.assert_close(vars(found), vars(expected), atol=0.05, rtol=0)


@pytest.mark.usefixtures("installed")
def test_a_portrait_is_within_one_level_of_torchs():
    found = Retoucher(device="cpu", backend="openvino")(astronaut(), aligned=True)
    for precision in ("fp32", "bf16"):
        expected = Retoucher(device="cpu", precision=precision)(astronaut(), aligned=True).astype(int)
        assert np.abs(found - expected).max() <= 1 < np.abs(expected - astronaut()).max()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("command", "options"), [(retouch, ()), (inpaint, ("--strokes", "0"))])
def test_a_file_names_the_backend(busy_model, tmp_path, command, options):
    model = busy_model()
    model.metadata = {"task": "inpainting"}
    model.save_pretrained(tmp_path / "weights")
    photo = make_photo(tmp_path / "a.png", size=(400, 300))
    for backend in ("torch", "openvino"):
        arguments = ("--weights", tmp_path / "weights", "--backend", backend, *BOX, *options)
        result = run_command(command, photo, "-o", tmp_path / "b.png", *arguments, "--overwrite")
        assert result.exit_code == 0, result.output
        assert (b"backend=openvino" in (tmp_path / "b.png").read_bytes()) == (backend == "openvino")


@pytest.mark.usefixtures("installed")
def test_auto_takes_it_for_many_photos(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino, "MANY_PHOTOS", 2)
    made = []
    monkeypatch.setattr(
        Retoucher, "__init__", lambda self, *given, **options: made.append(options["backend"]) or _refuse()
    )
    photos = [make_photo(tmp_path / f"{name}.png", size=(64, 64)) for name in "ab"]
    for given in (photos[:1], photos):
        run_command(retouch, *given, "-o", tmp_path / "out", "--weights", weights)
    assert made == ["torch", "openvino"]


def _refuse():
    raise ValueError("nothing to retouch")


@pytest.mark.parametrize("command", [retouch, inpaint])
def test_without_openvino_it_is_refused_in_one_line(weights, tmp_path, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "openvino", None)
    photo = make_photo(tmp_path / "a.png", size=(64, 64))
    result = run_command(command, photo, "-o", tmp_path / "b.png", "--weights", weights, "--backend", "openvino")
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: backend openvino needs") and line.endswith("pip install 'bpfre[openvino]'")


def test_a_recipe_is_replayed_with_torch(tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    photo = make_photo(tmp_path / "a.png", size=(64, 64))
    arguments = ("--recipe", tmp_path / "recipe.json", "--backend", "openvino")
    result = run_command(retouch, photo, "-o", tmp_path / "b.png", *arguments)
    assert result.exit_code == 2 and "leave out --backend openvino" in result.output
