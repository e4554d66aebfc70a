"""Drawn faces: label maps with all components, and noise as pictures."""

import pytest
import torch


def draw_labels(number, side=64, without=()):
    """(number, side, side) long; ``without``: (face, label) pairs to paint over with skin, hair with nothing."""
    labels = torch.zeros(number, 256, 256, dtype=torch.long)
    labels[:, 24:120, 52:204] = 10
    labels[:, 60:232, 66:190] = 1
    labels[:, 96:104, 84:112], labels[:, 96:104, 144:172] = 2, 3
    labels[:, 112:124, 88:112], labels[:, 112:124, 144:168] = 4, 5
    labels[:, 120:156, 116:140] = 6
    labels[:, 172:180, 104:152], labels[:, 180:184, 104:152], labels[:, 184:192, 104:152] = 7, 8, 9
    for face in range(number):  # neighbours have different places
        labels[face] = labels[face].roll((16 * (face % 2), -16 * (face % 3)), dims=(0, 1))
    for face, label in without:
        labels[face][labels[face] == label] = 0 if label in (1, 10) else 1
    return labels[:, :: 256 // side, :: 256 // side].contiguous()


@pytest.fixture
def drawn_labels():
    return draw_labels


@pytest.fixture
def drawn_pictures():
    def pictures(number, side=64, seed=0):
        return 2 * torch.rand(number, 3, side, side, generator=torch.Generator().manual_seed(seed)) - 1

    return pictures


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A folder of tiny untrained weights."""
    from maskgan.model import MaskGAN
    from retouch_common.testing.parameters import randomize_parameters

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    randomize_parameters(MaskGAN.from_preset("tiny"), amount=0.02).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def parser_weights(tmp_path_factory):
    """A folder of weights of a tiny untrained face parser."""
    from retouch_common.parsing.model import ParsingUNet

    folder = tmp_path_factory.mktemp("parser")
    torch.manual_seed(0)
    ParsingUNet.from_preset("tiny").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """Six drawn faces for training, three for validation, two for testing, each part in its person's colour."""
    import numpy as np
    import pyvips
    from retouch_common.parsing.labels import write_labels

    folder = tmp_path_factory.mktemp("faces")
    generator = np.random.default_rng(0)
    masks = draw_labels(11).numpy().astype(np.uint8)
    for number, labels in enumerate(masks):
        split = folder / ("train" if number < 6 else "val" if number < 9 else "test")
        for name in ("images", "labels"):
            (split / name).mkdir(parents=True, exist_ok=True)
        colours = generator.integers(30, 220, (11, 3))
        levels = colours[labels] + generator.normal(0, 4, (*labels.shape, 3))
        picture = pyvips.Image.new_from_array(levels.clip(0, 255).astype(np.uint8))
        picture.write_to_file(str(split / "images" / f"{number}.png"))
        write_labels(split / "labels" / f"{number}.png", labels)
    return folder
