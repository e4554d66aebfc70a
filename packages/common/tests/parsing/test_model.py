"""The parser's network keeps the contract of all models; its presets have the size they claim."""

import numpy as np
import pytest
import torch
from retouch_common.config import apply_overrides
from retouch_common.parsing.config import PRESETS
from retouch_common.parsing.labels import NUM_CLASSES
from retouch_common.parsing.model import ParsingUNet
from retouch_common.parsing.parser import ONE_PIECE, FaceParser
from retouch_common.testing.contract import ModelContract
from retouch_common.testing.parameters import randomize_parameters


class ParserContract(ModelContract):
    changes = {}  # noqa: RUF012

    def make_model(self):
        return ParsingUNet(apply_overrides(PRESETS["tiny"], {f"model.{k}": v for k, v in self.changes.items()}).model)

    def run(self, model, image):
        return {"logits": model(image)}

    def expected_shapes(self, batch, height, width):
        return {"logits": (batch, NUM_CLASSES, height, width)}


class TestResidual(ParserContract):
    pass


class TestPix2pix(ParserContract):
    """The paper's form: no residual blocks, dropout, features that are not normalised."""

    changes = {"blocks": 0, "dropout": 0.5}  # noqa: RUF012


def test_presets_have_their_sizes():
    with torch.device("meta"):
        sizes = {name: sum(p.numel() for p in ParsingUNet.from_preset(name).parameters()) for name in PRESETS}
    assert sizes["small"] * (2 if PRESETS["small"].train.half else 4) < 8e6
    assert 25e6 < sizes["paper"] < 35e6  # pix2pix's U-Net of six halvings
    assert sizes["tiny"] < 1e5
    with pytest.raises(ValueError, match="unknown preset 'smal'"):
        ParsingUNet.from_preset("smal")


def test_paper_preset_is_pix2pix_unet():
    with torch.device("meta"):
        model = ParsingUNet.from_preset("paper")
    kinds = [type(layer).__name__ for layer in model.modules() if not list(layer.children())]
    assert kinds.count("Conv2d") == kinds.count("ConvTranspose2d") == 6
    assert kinds.count("BatchNorm2d") == 4 + 5


def test_evaluation_keeps_running_statistics_and_lets_gradients_through():
    """As a frozen judge of generated faces it must be differentiable and must not learn."""
    model = randomize_parameters(ParsingUNet.from_preset("tiny")).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image = torch.rand(2, 3, 64, 64, requires_grad=True)
    torch.nn.functional.cross_entropy(model(image), torch.ones(2, 64, 64, dtype=torch.long)).backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_configurations_that_cannot_be():
    for changes in ({"channels": [8]}, {"size": 4}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match="model"):
            apply_overrides(PRESETS["tiny"], {f"model.{k}": v for k, v in changes.items()})
    with pytest.raises(ValueError, match="11 numbers"):
        apply_overrides(PRESETS["tiny"], {"loss.class_weights": [1.0, 2.0]})


def test_files_that_hold_no_parser_are_refused(tmp_path):
    from retouch_common.weights import save_weights

    save_weights(tmp_path / "other.safetensors", {"x": torch.zeros(1)}, config={"size": 64, "channels": [8, 16]})
    with pytest.raises(ValueError, match="its tensors do not fit"):
        ParsingUNet.from_pretrained(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="nothing-here"):
        ParsingUNet.from_pretrained("nothing-here")


@pytest.fixture
def parser(tmp_path):
    torch.manual_seed(0)
    randomize_parameters(ParsingUNet.from_preset("tiny")).save_pretrained(tmp_path / "weights")
    return FaceParser(tmp_path / "weights", "cpu")


def test_parser_gives_the_likeliest_class(parser):
    face = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    labels, likely = parser(face), parser.probabilities(face)
    assert labels.shape == (64, 64) and labels.dtype == np.uint8 and len(np.unique(labels)) > 1
    assert likely.shape == (11, 64, 64)
    np.testing.assert_allclose(likely.sum(0), 1, atol=1e-5)
    others = ~np.isin(likely.argmax(0), ONE_PIECE)
    np.testing.assert_array_equal(likely.argmax(0)[others], labels[others])
    np.testing.assert_array_equal(parser(np.ascontiguousarray(face[:50, :33])).shape, (50, 33))
    assert parser.size == 64 and not any(p.requires_grad for p in parser.model.parameters())


def test_a_part_of_one_piece_has_no_strays(parser, monkeypatch):
    """By hand: an eye, a speck of eye within the lip, and an upper lip in two halves, which may be."""
    logits = torch.zeros(11, 40, 40)
    logits[1] = 1.0
    logits[4, 10:14, 8:16] = logits[4, 30, 20] = 3.0
    logits[7, 28:32, 10:18] = logits[7, 28:32, 19:27] = 2.0
    monkeypatch.setattr(parser, "_logits", lambda face: logits)
    labels = parser(np.zeros((40, 40, 3), np.float32))
    expected = np.ones((40, 40), np.uint8)
    expected[10:14, 8:16] = 4
    expected[28:32, 10:18] = expected[28:32, 19:27] = 7
    np.testing.assert_array_equal(labels, expected)


def test_parser_wants_floats(parser):
    with pytest.raises(ValueError, match="float32"):
        parser(np.zeros((64, 64, 3), np.uint8))
