"""The pyramids and Eq. 5."""

import pytest
import torch
import torch.nn.functional as F
from abpn.blend_pyramid import BlendPyramid, RefiningModule, down, high_frequencies, image_pyramid, up


def test_box_takes_means_of_four_pixels():
    image = torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]])[None, None]
    assert down(image).flatten().tolist() == [2.5, 4.5]


def test_up_is_bilinear_with_half_pixel_centres():
    image = torch.tensor([[0.0, 4.0]])[None, None]
    assert up(image)[0, 0, 0].tolist() == [0.0, 1.0, 3.0, 4.0]


@pytest.mark.parametrize("kernel", ["box", "burt"])
def test_the_photograph_returns_from_its_pyramids(kernel):
    image = torch.rand(1, 3, 64, 48, dtype=torch.float64)
    images = image_pyramid(image, 3, kernel)
    assert [tuple(level.shape[-2:]) for level in images] == [(64, 48), (32, 24), (16, 12), (8, 6)]
    restored = images[-1]
    for H in reversed(high_frequencies(images)):
        restored = up(restored) + H
    # Each level of P_H was taken from the exact level below, so the sum telescopes.
    torch.testing.assert_close(images[-2], up(images[-1]) + high_frequencies(images)[-1])
    torch.testing.assert_close(restored, image)


@pytest.mark.parametrize("kernel", ["box", "burt"])
def test_a_flat_image_has_no_high_frequencies(kernel):
    for H in high_frequencies(image_pyramid(torch.full((1, 3, 32, 32), 0.7), 2, kernel)):
        assert H.abs().max() < 1e-6


def test_burt_smooths_more_than_box():
    checkerboard = (torch.arange(32)[:, None] // 2 + torch.arange(32)[None] // 2).remainder(2).float()[None, None]
    assert down(checkerboard, "burt").std() < down(checkerboard, "box").std()


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        image_pyramid(torch.rand(1, 3, 20, 16), 3)


def test_equation_5_by_hand():
    module = RefiningModule(width=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        # phi_1: filter 0 copies the first channel of up(B), filter 1 negates the first channel of H.
        module.phi_1.weight[0, 0, 1, 1] = 1.0
        module.phi_1.weight[1, 3, 1, 1] = -1.0
        # phi_2: the red result adds both filters, and a bias.
        module.phi_2.weight[0, :, 1, 1] = 1.0
        module.phi_2.bias[0] = 0.5
    enlarged, H = torch.full((1, 3, 4, 4), 0.25), torch.full((1, 3, 4, 4), 0.5)
    result = module(torch.cat([enlarged, H], dim=1))
    # red: 0.25 + h(0.25) + h(-0.5) + 0.5 with h(-0.5) = -0.1
    torch.testing.assert_close(result[:, 0], torch.full((1, 4, 4), 0.9))
    torch.testing.assert_close(result[:, 1:], enlarged[:, 1:])


def test_an_untrained_pyramid_is_bilinear_enlargement():
    pyramid = BlendPyramid()
    B = torch.rand(1, 3, 8, 8)
    blends = pyramid(B, image_pyramid(torch.rand(1, 3, 32, 32), 2))
    torch.testing.assert_close(blends[0], up(up(B)))
    assert blends[2] is B


def test_without_refining_nothing_is_learned():
    pyramid = BlendPyramid(refine=False)
    assert not list(pyramid.parameters())
    B = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(
        pyramid(B, image_pyramid(torch.rand(1, 3, 8, 8), 1))[0],
        F.interpolate(B, scale_factor=2.0, mode="bilinear"),
    )


def test_the_levels_share_one_refining_module():
    pyramid = BlendPyramid()
    assert sum(p.numel() for p in pyramid.parameters()) == 6 * 16 * 9 + 16 + 16 * 3 * 9 + 3
