"""Conversions of images."""

import numpy as np
import torch
from retouch_common.ranges import from_levels, to_levels, to_signed, to_tensor, to_unit


def test_signed_and_unit_are_inverse():
    assert to_signed(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1.0, 0.0, 1.0]
    assert to_unit(np.array([-1.0, 0.0, 1.0])).tolist() == [0.0, 0.5, 1.0]


def test_levels_are_clamped_and_rounded():
    image = np.array([-0.1, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.2], np.float32)
    assert to_levels(image).tolist() == [0, 0, 1, 255, 255]
    every = np.arange(256, dtype=np.uint8)
    assert from_levels(every).dtype == np.float32 and np.array_equal(to_levels(from_levels(every)), every)


def test_a_tensor_has_its_channels_first_and_its_own_memory():
    image = np.arange(12, dtype=np.float64).reshape(2, 2, 3)[:, ::-1]
    tensor = to_tensor(image)
    assert tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert tensor.tolist() == image.transpose(2, 0, 1).tolist()
