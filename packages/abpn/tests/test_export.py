"""The ONNX graphs compute what PyTorch does, at sizes they were not traced with."""

import importlib.util
import json
import os
from typing import get_args

import numpy as np
import pytest
import torch
from abpn import export as export_module
from abpn.blend import make_blend
from abpn.blend_pyramid import box_mean, down
from abpn.cli import export as command
from abpn.config import PRESETS, BlendMode, ModelConfig
from abpn.export import export, network_parts, whole_network
from abpn.model import ABPN
from click.testing import CliRunner
from retouch_common.config import apply_overrides, from_dict
from retouch_common.inference.onnx import run_onnx, to_onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TOLERANCE = 1e-4
SIZES = [(512, 512), (403, 311), (65, 131), (300, 1), (1, 1)]


def busy_model(seed: int = 0, **changes) -> ABPN:
    """A tiny network that changes every pixel visibly."""
    torch.manual_seed(seed)
    model = ABPN(apply_overrides(PRESETS["tiny"], {f"model.{name}": value for name, value in changes.items()}).model)
    for module in (model.blend_pyramid, model.local_retouching.retouching_branch.modules_up[-1]):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The model, the folder of its graphs and what the command printed."""
    folder = tmp_path_factory.mktemp("export")
    model = busy_model()
    model.save_pretrained(folder / "weights")
    options = ["--weights", str(folder / "weights"), "--out", str(folder / "m.onnx"), "--levels", "2", "--parts"]
    result = CliRunner().invoke(command, options)
    assert result.exit_code == 0, result.output
    return model, folder, result.output


@pytest.mark.parametrize("pyramid", ["box", "burt"])
def test_down_is_the_pyramids(pyramid):
    image = random_image(38, 54)
    found = export_module._Down(busy_model(pyramid=pyramid))(image)
    for halved in (down(image, pyramid), down(image, pyramid, mean=box_mean)):
        torch.testing.assert_close(halved, found, atol=1e-6, rtol=0)


def load(source):
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


def run(session, *inputs: np.ndarray) -> list[np.ndarray]:
    return session.run(None, dict(zip((i.name for i in session.get_inputs()), inputs, strict=True)))


def random_image(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height + width))


@torch.inference_mode()
def check_whole(session, model: ABPN, levels: int, size: tuple[int, int]) -> None:
    image = random_image(*size)
    expected = model(image, levels)
    result, *mask = run(session, image.numpy())
    np.testing.assert_allclose(result, expected.results[0], atol=TOLERANCE, rtol=0)
    assert len(mask) == (expected.mask is not None)
    for found in mask:
        np.testing.assert_allclose(found, expected.mask, atol=TOLERANCE, rtol=0)
    assert np.abs(result - image.numpy()).mean() > 1e-2  # the comparison is about something


@pytest.mark.parametrize("size", SIZES)
def test_whole_network(exported, size):
    model, folder, _ = exported
    check_whole(load(folder / "m.onnx"), model, 2, size)


@pytest.mark.parametrize(("size", "levels"), [((401, 333), 3), ((130, 192), 1), ((64, 40), 0), ((701, 90), 4)])
@torch.inference_mode()
def test_parts_make_any_number_of_levels(exported, size, levels):
    """The recipe of abpn.export's docstring, in numpy."""
    model, folder, _ = exported
    down, thumbnail, level, blend = (
        load(folder / f"m.{name}.onnx") for name in ("down", "thumbnail", "level", "blend")
    )
    image = random_image(*size)
    height, width = size
    step = 2**levels
    padding = [(0, 0), (0, 0), (0, -height % step), (0, -width % step)]
    images = [np.pad(image.numpy(), padding, mode="edge")]
    for _ in range(levels):
        images += run(down, images[-1])
    layer, mask = run(thumbnail, images[-1])
    for i in reversed(range(levels)):
        (layer,) = run(level, layer, images[i], images[i + 1])
    (result,) = run(blend, images[0], layer)
    expected = model(image, levels)
    np.testing.assert_allclose(layer, expected.blends[0], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(result[..., :height, :width], expected.results[0], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(mask, expected.mask, atol=TOLERANCE, rtol=0)


def test_metadata_hold_the_configuration(exported):
    model, folder, output = exported
    for name in ("m", "m.down", "m.thumbnail", "m.level", "m.blend"):
        assert f"{name}.onnx" in output
        metadata = load(folder / f"{name}.onnx").get_modelmeta().custom_metadata_map
        assert from_dict(ModelConfig, json.loads(metadata["config"])) == model.config
        assert (metadata["thumbnail"], metadata["pyramid"]) == ("64", "box")
        assert (float(metadata["neutral"]), float(metadata["min_slope"])) == (0.0, 0.1)
        assert metadata.get("levels") == ("2" if name == "m" else None)
    assert sorted(path.suffix for path in folder.iterdir()) == ["", *[".onnx"] * 5]  # weights inside, nothing partial


@pytest.mark.slow
def test_what_the_paper_compares_with_exports_too(monkeypatch):
    """Other kinds of every part at once: tracing takes as long for one as for all."""
    model = busy_model(blend="convolutional", pyramid="burt", residual=False, attention="pcb")
    session = load(whole_network(model, 1))
    for size in ((403, 311), (256, 512)):
        check_whole(session, model, 1, size)
    # The whole network holds what its thumbnail's part does, whose tracing takes the longest.
    monkeypatch.setattr(export_module, "to_onnx", without_thumbnail)
    check_level(network_parts(model), model)


@torch.inference_mode()
def test_without_refinement_and_mask(monkeypatch):
    model, image = busy_model(refine=False, mask_branch=False), random_image(65, 131)
    (result,) = export_module._Whole(model, 1)(image)
    torch.testing.assert_close(result, model(image, 1).results[0], atol=TOLERANCE, rtol=0)
    monkeypatch.setattr(export_module, "to_onnx", without_thumbnail)
    check_level(network_parts(model), model)


def without_thumbnail(module, example, outputs, **options) -> bytes:
    """``to_onnx``, except that a thumbnail's part is called instead of traced."""
    if not isinstance(module, export_module._Thumbnail):
        return to_onnx(module, example, outputs, **options)
    assert len(module(**example)) == len(outputs)
    return b""


@torch.inference_mode()
def check_level(parts: dict[str, bytes], model: ABPN) -> None:
    fine, blend = random_image(38, 54), random_image(19, 27)
    (coarse,) = run(load(parts["down"]), fine.numpy())
    (found,) = run(load(parts["level"]), blend.numpy(), fine.numpy(), coarse)
    expected = model.blend_pyramid(blend, [fine, down(fine, model.config.pyramid)])[0]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


class EveryBlend(torch.nn.Module):
    """A photograph and its retouched version to what each blend makes of them, there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.blends = torch.nn.ModuleList(map(make_blend, get_args(BlendMode)))

    def forward(self, image: torch.Tensor, retouched: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(blend(image, blend.reverse(image, retouched)) for blend in self.blends)


def test_every_blend_exports():
    torch.manual_seed(0)
    module = EveryBlend()
    example = {"image": torch.zeros(1, 3, 22, 34), "retouched": torch.zeros(1, 3, 22, 34)}
    graph = to_onnx(module, example, get_args(BlendMode), free=(2, 3), metadata={})
    inputs = {"image": random_image(40, 31), "retouched": random_image(31, 40).mT}
    with torch.no_grad():
        expected = dict(zip(get_args(BlendMode), module(**inputs), strict=True))
    found = run_onnx(graph, inputs)
    assert found.keys() == expected.keys() and len(found) == 6
    for name, result in expected.items():
        torch.testing.assert_close(found[name], result, atol=TOLERANCE, rtol=0)


def test_another_networks_graph_is_refused(exported, tmp_path, monkeypatch):
    graph = (exported[1] / "m.onnx").read_bytes()
    monkeypatch.setattr(export_module, "whole_network", lambda model, levels: graph)
    with pytest.raises(ValueError, match="differ by"):
        export(busy_model(seed=1), tmp_path / "m.onnx", levels=2)
    assert not list(tmp_path.iterdir())
    assert export(exported[0], tmp_path / "m.onnx", levels=2) == [tmp_path / "m.onnx"]


def test_a_failed_write_leaves_the_old_file(exported, tmp_path, monkeypatch):
    graph = (exported[1] / "m.onnx").read_bytes()
    out = tmp_path / "m.onnx"
    out.write_bytes(b"old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "whole_network", lambda model, levels: graph)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        export(exported[0], out, levels=2)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_extra_is_one_line(tmp_path, monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    result = CliRunner().invoke(command, ["--weights", "small", "--out", str(tmp_path / "m.onnx")])
    assert result.exit_code == 1
    assert result.output == f"Error: exporting needs {missing}; install it with: pip install 'abpn[onnx]'\n"


@pytest.mark.parametrize(
    ("name", "levels", "message"),
    [("m.pt", 1, "must end in .onnx"), ("no/m.onnx", 1, "does not exist; create it"), ("m.onnx", 8, "between 0 and 7")],
)
def test_wrong_options_are_refused_at_once(tmp_path, name, levels, message):
    with pytest.raises(ValueError, match=message):
        export(busy_model(), tmp_path / name, levels=levels)
    assert not list(tmp_path.iterdir())


def test_the_parts_are_those_that_are_looked_for(monkeypatch):
    monkeypatch.setattr(export_module, "to_onnx", lambda *args, **kwargs: b"")
    assert set(network_parts(ABPN.from_preset("tiny"))) == set(export_module.PARTS)


@pytest.mark.parametrize("name", ["a.onnx", "a.level.onnx"])
def test_a_file_that_is_there_is_not_replaced(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"kept")
    result = CliRunner().invoke(command, ["--out", str(tmp_path / "a.onnx"), "--parts"])
    assert result.exit_code == 1 and f"{path}: already exists" in result.output
    assert path.read_bytes() == b"kept" and list(tmp_path.iterdir()) == [path]


def test_dynamic_dimensions_have_names(exported):
    _, folder, _ = exported
    whole = load(folder / "m.onnx")
    assert [value.shape for value in whole.get_inputs()] == [[1, 3, "height", "width"]]
    assert whole.get_outputs()[0].shape[2:] == ["height", "width"]
    level = {value.name: value.shape for value in load(folder / "m.level.onnx").get_inputs()}
    names = [name for shape in level.values() for name in shape[2:]]
    assert all(isinstance(name, str) and name.startswith(("height", "width")) for name in names), level
