"""The backend "openvino": its choice, compiled modules and their cache."""

import sys

import pytest
import torch
from retouch_common.devices import resolve_precision
from retouch_common.inference.openvino import MANY_PHOTOS, CompiledModule, choose_backend, is_installed
from torch import nn

CHOICE = {"num_photos": MANY_PHOTOS, "device": "cpu", "precision": "bf16"}


class Network(nn.Module):
    def __init__(self, bias=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer("bias", torch.tensor(bias))

    def forward(self, image, t):
        features = self.convolution(image)
        return torch.sigmoid(features + self.bias) * t.view(-1, 1, 1, 1), features.mean(dim=(2, 3))


@pytest.fixture
def not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    if not is_installed() or resolve_precision("auto", torch.device("cpu")) != torch.bfloat16:
        pytest.skip("openvino is not installed, or this CPU does not compute in bf16")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "retouch-common" / "openvino"


def inputs(side=16):
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return image, torch.tensor([3])


def test_without_openvino_auto_is_torch_and_openvino_is_refused_in_one_line(not_installed):
    assert choose_backend("auto", "bpfre", **CHOICE) == "torch"
    with pytest.raises(ValueError, match=r"not installed; install it with: pip install 'bpfre\[openvino\]'$"):
        choose_backend("openvino", "bpfre", **CHOICE)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, "openvino"),
        ({"num_photos": None}, "openvino"),
        ({"num_photos": MANY_PHOTOS - 1}, "torch"),
        ({"precision": "fp32"}, "torch"),
    ],
)
def test_auto_is_openvino_for_many_photos_in_bf16(given, chosen):
    assert choose_backend("auto", "bpfre", **(CHOICE | given)) == chosen
    if "precision" not in given:
        assert choose_backend("openvino", "bpfre", **(CHOICE | given)) == "openvino"
    assert choose_backend("torch", "bpfre", **(CHOICE | given)) == "torch"


@pytest.mark.usefixtures("cache")
def test_openvino_is_refused_in_fp32():
    with pytest.raises(ValueError, match=r"openvino computes in bf16, .* use --backend torch"):
        choose_backend("openvino", "bpfre", **(CHOICE | {"precision": "fp32"}))


@pytest.mark.usefixtures("cache")
def test_openvino_is_refused_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(ValueError, match="openvino computes on the CPU; use --device cpu"):
        choose_backend("openvino", "bpfre", **(CHOICE | {"device": "auto"}))
    assert choose_backend("auto", "bpfre", **(CHOICE | {"device": "auto"})) == "torch"


@pytest.mark.usefixtures("cache")
def test_a_compiled_module_computes_what_the_module_does():
    network, tolerance = Network().eval(), 0.05
    compiled = CompiledModule(network)
    for side in (16, 24, 16):  # other shapes are compiled beside the first
        with torch.no_grad():
            expected, found = network(*inputs(side)), compiled(*inputs(side))
        assert [value.dtype for value in found] == [torch.float32] * 2
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    image, t = inputs()
    with torch.no_grad():
        torch.testing.assert_close(compiled(image.double(), t), network(image, t), atol=tolerance, rtol=0)


def test_compiling_is_cached_by_parameters_and_shapes(cache, monkeypatch):
    expected = CompiledModule(Network())(*inputs())
    (file,) = cache.iterdir()
    conversions = []
    convert = CompiledModule._convert
    monkeypatch.setattr(CompiledModule, "_convert", lambda *call: conversions.append(1) or convert(*call))
    again = CompiledModule(Network())(*inputs())
    assert not conversions and all(map(torch.equal, again, expected))
    for module, side in ((Network(), 24), (Network(bias=1.0), 16)):
        CompiledModule(module)(*inputs(side))
    assert len(conversions) == 2 and len(list(cache.iterdir())) == 3
    file.write_bytes(b"damaged")
    assert all(map(torch.equal, CompiledModule(Network())(*inputs()), expected))
    assert len(conversions) == 3 and file.stat().st_size > 1000


def test_the_key_of_the_cache_depends_on_attributes():
    """Such as the stage whose output is asked for: parameters and source files are the same."""

    class Part(nn.Module):
        def __init__(self, stage):
            super().__init__()
            self.stage = stage

    keys = {CompiledModule(nn.Sequential(Part(stage)))._key() for stage in ("coarse", "refined", "coarse")}
    assert len(keys) == 2


def test_a_cache_that_cannot_be_written_is_no_error(cache):
    cache.parent.parent.joinpath("retouch-common").write_text("a file where the folder should be")
    assert CompiledModule(Network())(*inputs())[0].shape == (1, 8, 16, 16)


@pytest.mark.usefixtures("cache")
def test_all_modules_of_a_process_share_one_core(monkeypatch):
    """A second one may end the process."""
    import openvino

    CompiledModule(Network())(*inputs())
    monkeypatch.setattr(openvino, "Core", None)
    CompiledModule(Network(bias=1.0))(*inputs())


@pytest.mark.usefixtures("cache")
def test_openvino_reports_nothing_to_a_server():
    """Its telemetry sends an event when it is imported, unless its package is missing."""
    CompiledModule(Network())(*inputs())
    assert sys.modules["openvino_telemetry"] is None
