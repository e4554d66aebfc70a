"""Stage one: numbers of blocks, shapes, and what passes where."""

import pytest
import torch
from bpfre.config import PRESETS, ModelConfig
from bpfre.model import BPFRe
from bpfre.unet import Bottleneck, upsample


def blocks(network):
    return sum(isinstance(module, Bottleneck) for module in network.modules())


def test_sixteen_and_sixteen_blocks_at_512():
    config = PRESETS["paper"].model
    assert config.size == 512 and config.resolutions == (512, 256, 128, 64, 32, 16, 8, 4)
    with torch.device("meta"):
        model = BPFRe(config)
        assert (blocks(model.encoder), blocks(model.decoder)) == (16, 16)


def test_channels_halve_as_sides_double():
    config = PRESETS["paper"].model
    assert [config.channels[r] for r in (512, 256, 128, 64, 4)] == [64, 128, 256, 512, 512]


@pytest.mark.parametrize("patch", [1, 2])
def test_shapes(patch):
    config = ModelConfig(size=64, patch=patch, channel_base=256, max_channels=16, style_dim=6)
    model = BPFRe(config)
    encoder, decoder = model.encoder, model.decoder
    f_E = encoder(torch.rand(2, 3, 64, 64))
    assert list(f_E) == list(config.resolutions) and max(f_E) == 64 // patch
    assert encoder.code(f_E).shape == (2, 6)
    rgb, f_deco = decoder(f_E)
    assert rgb.shape == (2, 3, 64, 64) and list(f_deco) == list(config.resolutions)
    for r in config.resolutions:
        assert f_E[r].shape == f_deco[r].shape == (2, config.channels[r], r, r)


def test_the_decoder_sees_every_weighted_scale():
    config = ModelConfig(size=32, channel_base=128, max_channels=8)
    decoder = BPFRe(config).decoder.eval()
    features = {r: torch.rand(1, config.channels[r], r, r) for r in config.resolutions}
    before = decoder(features)[0]
    for r in config.resolutions:
        assert not torch.equal(before, decoder({**features, r: features[r] + 1})[0]), r


def test_the_shortcut_of_a_dead_branch():
    block = Bottleneck(4, 4, stride=2, norm="none")
    torch.nn.init.zeros_(block.body[3].weight)
    torch.nn.init.zeros_(block.body[3].bias)
    x = torch.rand(1, 4, 6, 6)
    assert torch.equal(block(x), x[..., ::2, ::2])


def test_squeeze_and_excitation_by_hand():
    """The branch is 2 everywhere; excitation is sigmoid(relu(2) * 0.5 * 4 hidden units)."""
    block = Bottleneck(1, 1, norm="none")
    for layer in (block.body[1], block.body[3], block.excite[0], block.excite[2]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    block.body[3].bias.data.fill_(2)
    block.excite[0].weight.data.fill_(1)
    block.excite[2].weight.data.fill_(0.5)
    expected = 0.3 + 2 * torch.sigmoid(torch.tensor(4.0))
    assert torch.allclose(block(torch.full((1, 1, 3, 3), 0.3)), expected.expand(1, 1, 3, 3))


def test_upsampling_keeps_a_constant():
    assert torch.equal(upsample(torch.full((1, 2, 3, 3), 0.5)), torch.full((1, 2, 6, 6), 0.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 100}, "power of two"),
        ({"patch": 3}, "1, 2 or 4"),
        ({"decoder": False, "generator": False}, "nothing that makes an image"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**changes)
