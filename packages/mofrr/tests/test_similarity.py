"""Face recognition networks from files, and the frame they see."""

import hashlib

import numpy as np
import pytest
import pyvips
import torch
from mofrr.similarity import FRAME, Embedder, plot_distributions, similarity_transform, summarize, to_frame
from retouch_common.faces.landmarks import canonical_landmarks


class Mean(torch.nn.Module):
    """The mean colour and a constant: a network whose answer is known."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(dim=(2, 3))
        return torch.cat([mean, torch.ones_like(mean[:, :1])], dim=1)


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "mean.pt"
    torch.jit.script(Mean()).save(str(path))
    return path


def trusted(path, **options):
    return Embedder(path, expected=hashlib.sha256(path.read_bytes()).hexdigest(), **options)


def test_the_embedding_has_length_1_and_the_right_colours(network):
    image = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(2, 3, 128, 128)
    rgb, bgr = (trusted(network, colour=colour)(image) for colour in ("rgb", "bgr"))
    assert torch.allclose(rgb[0], torch.tensor([1.0, 0.0, -1.0, 1.0]) / 3**0.5, atol=1e-3)
    assert torch.allclose(bgr[0], torch.tensor([-1.0, 0.0, 1.0, 1.0]) / 3**0.5, atol=1e-3)


@pytest.mark.parametrize("size", [128, 512])
def test_eyes_nose_and_mouth_come_to_their_places(size):
    """Five bright spots of an average face, found again in the frame."""
    points = canonical_landmarks(size).five_points
    for place, wanted in zip(points, FRAME, strict=True):
        y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        spot = torch.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * (size / 64) ** 2))
        framed = to_frame(spot[None, None].float().expand(1, 3, -1, -1))[0, 0]
        row, column = divmod(int(framed.argmax()), 112)
        assert abs(column - wanted[0]) < 4 and abs(row - wanted[1]) < 4


def test_a_similarity_transform_is_found_again():
    angle, scale, shift = 0.3, 1.7, np.array([4.0, -2.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.random.default_rng(0).normal(size=(5, 2))
    found = similarity_transform(points, points @ turn.T + shift)
    np.testing.assert_allclose(found, np.column_stack([turn, shift]), atol=1e-9)


def test_the_distribution():
    told = summarize([1.0, 0.5, -0.99, 0.6])
    assert told["faces"] == 4 and told["mean"] == pytest.approx(1.11 / 4) and told["median"] == pytest.approx(0.55)
    assert told["share above 0.5"] == 0.5
    width = 2 / 100
    assert sum(told["density"]) * width == pytest.approx(1) and told["density"][0] == pytest.approx(0.25 / width)


def test_refuses_what_is_no_embedder(network, tmp_path):
    digest = hashlib.sha256(network.read_bytes()).hexdigest()
    assert Embedder(network, expected=digest).sha256 == digest
    with pytest.raises(ValueError, match=r"mean\.pt: .*run its author's code.*--embedder-sha256"):
        Embedder(network)
    with pytest.raises(ValueError, match="not the expected one"):
        Embedder(network, expected="0" * 64)
    (tmp_path / "a.txt").write_text("no")
    with pytest.raises(ValueError, match=r"a\.txt: an embedder is"):
        Embedder(tmp_path / "a.txt")
    (tmp_path / "a.pt").write_text("no")
    with pytest.raises(ValueError, match=r"a\.pt: not a TorchScript network"):
        trusted(tmp_path / "a.pt")
    torch.jit.script(torch.nn.Identity()).save(str(tmp_path / "same.pt"))
    with pytest.raises(ValueError, match="not return \\(N, D\\) embeddings"):
        trusted(tmp_path / "same.pt")(torch.rand(1, 3, 64, 64))


def test_an_onnx_file_that_is_none_is_named(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"a\.onnx: not an ONNX network"):
        Embedder(tmp_path / "a.onnx")


def test_the_distributions_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    generator = np.random.default_rng(0)
    rows = {name: generator.normal(mean, 0.05, 200).tolist() for name, mean in (("a", 0.4), ("b", 0.8))}
    plot_distributions(tmp_path / "both.png", rows)
    plot_distributions(tmp_path / "one.png", {"a": rows["a"]})
    both, one = (pyvips.Image.new_from_file(str(tmp_path / f"{name}.png")).numpy() for name in ("both", "one"))
    assert (both[..., :3] < 128).any() and both.shape == one.shape and (both != one).any()
