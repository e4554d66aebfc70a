"""The ImageNet weights are not at hand: networks of the same architecture with random weights stand in."""

from __future__ import annotations

import hashlib

import pytest
import safetensors.torch
import torch
import torchvision
from retouch_common.losses.perceptual import PerceptualLoss
from retouch_common.weights import read_vgg


@pytest.fixture(scope="module")
def weights():
    """Random convolutions of VGG16 up to relu3_3, named as torchvision names them."""
    torch.manual_seed(0)
    shapes = {
        0: (64, 3),
        2: (64, 64),
        5: (128, 64),
        7: (128, 128),
        10: (256, 128),
        12: (256, 256),
        14: (256, 256),
    }
    state = {}
    for place, (out, into) in shapes.items():
        state[f"features.{place}.weight"] = torch.randn(out, into, 3, 3) * (2 / (9 * into)) ** 0.5
        state[f"features.{place}.bias"] = torch.randn(out) * 0.1
    return state


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_equals_torchvisions_own_feature_extractor(weights):
    from torchvision.models.feature_extraction import create_feature_extractor

    with torch.device("meta"):
        vgg = torchvision.models.vgg16(weights=None)
    vgg.features = vgg.features[:17]
    vgg.features.load_state_dict({k.removeprefix("features."): v for k, v in weights.items()}, assign=True)
    for layer in vgg.features:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False
    oracle = create_feature_extractor(vgg.features, {"3": "relu1_2", "8": "relu2_2", "15": "relu3_3"})
    normalize = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    a, b = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        fa, fb = oracle(normalize(a)), oracle(normalize(b))
    expected = sum((fa[name] - fb[name]).square().mean() for name in fa)
    loss = PerceptualLoss(layers=("relu1_2", "relu2_2", "relu3_3"), state_dict=weights)
    assert loss(a, b).item() == pytest.approx(expected.item(), rel=1e-5)
    single = PerceptualLoss(layers=("relu2_2",), state_dict=weights)
    assert single(a, b).item() == pytest.approx((fa["relu2_2"] - fb["relu2_2"]).square().mean().item(), rel=1e-5)


def test_gradients_flow_into_the_output_only(weights):
    loss = PerceptualLoss(layers=("relu1_2",), state_dict=weights)
    output = torch.rand(1, 3, 16, 16, requires_grad=True)
    target = torch.rand(1, 3, 16, 16, requires_grad=True)
    loss(output, target).backward()
    assert output.grad.abs().sum() > 0
    assert target.grad is None
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())


def test_equal_pictures_cost_nothing(weights):
    image = torch.rand(1, 3, 16, 16)
    assert PerceptualLoss(state_dict=weights)(image, image).item() == 0


def test_weights_that_are_not_there_are_refused_and_not_downloaded(cache, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("a download"))
    with pytest.raises(ValueError, match="set the weight of this loss to 0") as caught:
        read_vgg("vgg19")
    assert str(cache / "vgg19-dcbb9e9d.pth") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_the_cache_must_have_the_checksum_in_their_name(cache, weights):
    torch.save(weights, cache / "vgg16-397923af.pth")
    with pytest.raises(ValueError, match=r"vgg16-397923af\.pth: damaged"):
        read_vgg("vgg16")


def test_weights_are_found_in_the_cache(cache, weights, monkeypatch):
    real = hashlib.sha256

    class Agreeable:
        def __init__(self):
            self.update = real().update

        def hexdigest(self):
            return "397923af" + "0" * 56

    torch.save(weights, cache / "vgg16-397923af.pth")
    monkeypatch.setattr("retouch_common.files.hashlib.sha256", Agreeable)
    image, other = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    assert (
        PerceptualLoss(state_dict=read_vgg("vgg16"))(image, other).item()
        == PerceptualLoss(state_dict=weights)(image, other).item()
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_by_path(tmp_path, weights, suffix):
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(weights, path)
    else:
        safetensors.torch.save_file(weights, path)
    assert torch.equal(read_vgg("vgg16", path)["features.0.weight"], weights["features.0.weight"])


def test_a_file_of_something_else_is_named(tmp_path, weights):
    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"other\.pth: not weights of torchvision's vgg16, features\.0\.weight is"):
        read_vgg("vgg16", path)
    for name in ("other.pth", "other.safetensors"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(ValueError, match=rf"{name}: not a file of weights"):
            read_vgg("vgg16", tmp_path / name)
    wrong = {**weights, "features.0.weight": torch.zeros(64, 4, 3, 3)}
    with pytest.raises(ValueError, match="not weights of torchvision's vgg16"):
        PerceptualLoss(state_dict=wrong)


def test_names_of_layers_agree_with_torchvision():
    for network, last in (("vgg16", "relu5_3"), ("vgg19", "relu5_4")):
        with torch.device("meta"):
            features = getattr(torchvision.models, network)(weights=None).features
        state = {f"features.{k}": torch.zeros(v.shape) for k, v in features.state_dict().items()}
        loss = PerceptualLoss(network, layers=(last,), state_dict=state)
        assert isinstance(features[loss.places[-1]], torch.nn.ReLU)
        assert loss.places[-1] == len(features) - 2, "the last layer but the pooling"


def test_mistakes():
    with pytest.raises(ValueError, match="'resnet' is not one of vgg16, vgg19"):
        PerceptualLoss("resnet", state_dict={})
    with pytest.raises(ValueError, match="vgg16 has no layer 'relu3_4'; its layers are relu1_1, "):
        PerceptualLoss(layers=("relu3_4",), state_dict={})


def test_absolute_distance_by_hand(weights):
    """relu1_1 is one convolution, which torch computes directly."""
    a, b = torch.rand(2, 1, 3, 16, 16)
    kernel, bias = weights["features.0.weight"], weights["features.0.bias"]
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    normalised = ((x - mean) / std for x in (a, b))
    fa, fb = (torch.relu(torch.nn.functional.conv2d(x, kernel, bias, padding=1)) for x in normalised)
    loss = PerceptualLoss(layers=("relu1_1",), state_dict=weights, distance="l1")
    assert loss(a, b).item() == pytest.approx((fa - fb).abs().mean().item(), rel=1e-5)
    with pytest.raises(ValueError, match="l2"):
        PerceptualLoss(layers=("relu1_1",), state_dict=weights, distance="l2")


def test_weights_that_are_not_finite_or_of_another_network_are_refused(tmp_path, weights):
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file({**weights, "features.5.bias": torch.full((128,), torch.nan)}, path)
    with pytest.raises(ValueError, match=r"mine\.safetensors: tensor 'features\.5\.bias' holds NaN"):
        read_vgg("vgg16", path)
    with pytest.raises(ValueError, match=r"not weights of torchvision's vgg19: features\.16\."):
        PerceptualLoss("vgg19", layers=("relu3_4",), state_dict=weights)
