"""The pyramids and Eq. 5."""

import pytest
import torch
import torch.nn.functional as F
from abpn.blend_pyramid import (
    BlendPyramid,
    RefiningModule,
    burt_expand,
    convolve_leaky,
    convolve_pixels,
    down,
    high_frequencies,
    image_pyramid,
    up,
    up_pixels,
)


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


@pytest.mark.parametrize(("kernel", "expected"), [("box", 1 / 16), ("burt", (44 / 256) ** 2)])
def test_every_level_is_made_from_the_one_above_with_the_kernel(kernel, expected):
    """Burt: pixel 8 weighs 1, 6, 1 in the cells 3, 4, 5 and these 4, 6, 4 in cell 2, all over 16."""
    impulse = torch.zeros(1, 1, 16, 16)
    impulse[..., 8, 8] = 1
    assert image_pyramid(impulse, 2, kernel)[2][0, 0, 2, 2].item() == pytest.approx(expected)


def test_reduce_by_hand():
    """Burt and Adelson's 1, 4, 6, 4, 1 sixteenths around the even pixels; the box's kernel halves two pixels."""
    for place, weights in ((4, [0.0, 1.0, 6.0, 1.0, 0.0, 0.0]), (5, [0.0, 0.0, 4.0, 4.0, 0.0, 0.0])):
        impulse = torch.zeros(1, 1, 12, 12)
        impulse[..., place, place] = 1
        w = torch.tensor(weights) / 16
        torch.testing.assert_close(down(impulse, "burt")[0, 0], torch.outer(w, w))
        assert down(impulse, "box")[0, 0, 2, 2] == 0.25


def test_expand_by_hand():
    """1, 6, 1 eighths of the old pixels on the even ones, a half of two old pixels on the odd ones."""
    impulse = torch.zeros(1, 1, 4, 4)
    impulse[..., 1, 2] = 1
    rows, columns = torch.tensor([[1.0, 4, 6, 4, 1, 0, 0, 0], [0.0, 0, 1, 4, 6, 4, 1, 0]]) / 8
    torch.testing.assert_close(burt_expand(impulse)[0, 0], torch.outer(rows, columns))
    assert torch.equal(burt_expand(torch.ones(1, 3, 2, 1)), torch.ones(1, 3, 4, 2))  # edges are repeated


def test_high_frequencies_are_the_laplacian_pyramid():
    """I = EXPAND(REDUCE(I)) + H; H is 0 on a gradient away from the edges, and the layers keep the pyramid's grid."""
    image = torch.rand(1, 3, 16, 16)
    coarse = down(image, "burt")
    torch.testing.assert_close(high_frequencies(image, coarse, "burt"), image - burt_expand(coarse))
    gradient = torch.arange(32.0).expand(1, 3, 32, 32)
    coarse = down(gradient, "burt")
    assert high_frequencies(gradient, coarse, "burt")[..., 4:-4].abs().max() == 0
    assert torch.equal(up(coarse, "burt")[..., 4:-4], gradient[..., 4:-4])
    box = down(gradient, "box")
    assert torch.equal(up(box, "box")[..., 4:-4], gradient[..., 4:-4])


def test_burts_pyramid_feeds_the_refining_module_with_its_own_high_frequencies():
    pyramid = BlendPyramid(kernel="burt")
    B, fine = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 16, 16)
    coarse, seen = down(fine, "burt"), []
    pyramid.refining.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    pyramid(B, [fine, coarse])
    torch.testing.assert_close(seen[0], torch.cat([up(B, "burt"), fine - burt_expand(coarse)], dim=1))


def test_burts_pyramid_stays_in_fp32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        images = image_pyramid(torch.rand(1, 3, 16, 16), 2, "burt")
        assert {image.dtype for image in (*images, burt_expand(images[1]))} == {torch.float32}


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


@pytest.mark.parametrize("channels_last", [False, True])
def test_convolving_several_pixels_at_once_is_the_convolution(channels_last):
    layer, x = torch.nn.Conv2d(5, 3, 3, padding=1), torch.randn(2, 5, 7, 12)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(convolve_pixels(x, layer), layer(x))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (7, 6)])
def test_interpolating_pixels_is_bilinear_interpolation(size):
    x = torch.randn(2, 6, *size).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(up_pixels(x), up(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolution_and_leaky_relu_in_one_pass_equal_two(dtype):
    layer, x = torch.nn.Conv2d(6, 16, 3, padding=1).to(dtype), torch.randn(1, 6, 9, 12, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    expected = F.leaky_relu(layer(x), 0.2)
    assert expected.requires_grad and convolve_leaky(x, layer, 0.2).requires_grad
    with torch.no_grad():
        torch.testing.assert_close(convolve_leaky(x, layer, 0.2), expected.detach())
        torch.testing.assert_close(convolve_leaky(x.contiguous(), layer, 0.2), expected.detach())


def test_refining_for_inference_equals_training():
    module, x = RefiningModule(), torch.randn(1, 6, 8, 12).contiguous(memory_format=torch.channels_last)
    torch.nn.init.normal_(module.phi_2.weight)
    with torch.no_grad():
        found = module(x)
    torch.testing.assert_close(found, module(x).detach())


def test_expanding_for_inference_equals_training():
    pyramid = BlendPyramid()
    torch.nn.init.normal_(pyramid.refining.phi_2.weight)
    B, fine, coarse = torch.randn(1, 3, 4, 6), torch.rand(1, 3, 8, 12), torch.rand(1, 3, 4, 6)
    with torch.no_grad():
        found = pyramid.expand(B, fine, coarse)
    torch.testing.assert_close(found, pyramid.expand(B, fine, coarse).detach())
