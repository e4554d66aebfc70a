"""The pyramids and Eq. 5."""

import pytest
import torch
import torch.nn.functional as F
from abpn.blend_pyramid import BlendPyramid, RefiningModule, down, image_pyramid, up


def test_box_takes_means_of_four_pixels():
    image = torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]])[None, None]
    assert down(image).flatten().tolist() == [2.5, 4.5]


def test_up_is_bilinear_with_half_pixel_centres():
    image = torch.tensor([[0.0, 4.0]])[None, None]
    assert up(image)[0, 0, 0].tolist() == [0.0, 1.0, 3.0, 4.0]


def test_pyramid_levels_halve_the_sides_by_the_kernel():
    image = torch.rand(1, 3, 64, 48)
    for kernel in ("box", "burt"):
        images = image_pyramid(image, 3, kernel)
        assert [tuple(level.shape[-2:]) for level in images] == [(64, 48), (32, 24), (16, 12), (8, 6)]


@pytest.mark.parametrize(("kernel", "expected"), [("box", 1 / 16), ("burt", (135 / 1024) ** 2)])
def test_every_level_is_made_from_the_one_above_with_the_kernel(kernel, expected):
    """Burt: pixel 8 weighs 5, 10, 1 in the cells 3, 4, 5, which weigh 5, 10, 10 in cell 2, all over 32."""
    impulse = torch.zeros(1, 1, 16, 16)
    impulse[..., 8, 8] = 1
    assert image_pyramid(impulse, 2, kernel)[2][0, 0, 2, 2].item() == pytest.approx(expected)


def test_kernels_by_hand():
    """Burt and Adelson's 1, 4, 6, 4, 1 sixteenths, then the mean of two: 1, 5, 10, 10, 5, 1; the box's a half each."""
    impulse = torch.zeros(1, 1, 12, 12)
    impulse[..., 4, 4] = 1
    box, burt = down(impulse, "box")[0, 0], down(impulse, "burt")[0, 0]
    assert box[2, 2] == 0.25 and box.sum() == 0.25
    weights = torch.tensor([5.0, 10.0, 1.0]) / 32  # of pixel 4 in the cells 1, 2 and 3
    torch.testing.assert_close(burt[1:4, 1:4], weights[:, None] * weights)


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
    upsampled, H = torch.full((1, 3, 4, 4), 0.25), torch.full((1, 3, 4, 4), 0.5)
    result = module(torch.cat([upsampled, H], dim=1))
    # red: 0.25 + h(0.25) + h(-0.5) + 0.5 with h(-0.5) = -0.1
    torch.testing.assert_close(result[:, 0], torch.full((1, 4, 4), 0.9))
    torch.testing.assert_close(result[:, 1:], upsampled[:, 1:])


def test_an_untrained_pyramid_is_bilinear_interpolation():
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
