import numpy as np
import torch
from retouch_common.photo.colour import rgb_to_lab


def test_lab_of_known_colours():
    colours = np.array([[[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 0, 1]]], np.float32)
    expected = [[[0, 0, 0], [100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]]
    np.testing.assert_allclose(rgb_to_lab(colours), expected, atol=0.02)


def test_lab_is_that_of_kornia():
    from kornia.color import rgb_to_lab as expected

    image = np.random.default_rng(0).random((16, 16, 3), np.float32)
    image[:2] *= 0.03  # dark colours, on the linear part of both curves
    lab = rgb_to_lab(image)
    assert lab.dtype == np.float32
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    np.testing.assert_allclose(lab, expected(tensor).permute(1, 2, 0).numpy(), atol=2e-3)
