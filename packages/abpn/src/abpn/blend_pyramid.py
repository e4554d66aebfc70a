"""The adaptive blend pyramid layer (Lei et al., "ABPN", CVPR 2022, section 4.3, Eq. 5).

The thumbnail's blend layer is upsampled level by level. At each level a small refining module adds detail from the
upsampled layer and the high frequencies of the photograph.

Shapes: level i of an image of height h and width w is (N, 3, h / 2^i, w / 2^i).
"""

import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abpn.config import PyramidKernel

Mean = Callable[[Tensor, int], Tensor]

PIXELS = 4  # of :func:`convolve_pixels`


def up(x: Tensor, kernel: PyramidKernel = "box") -> Tensor:
    """Double height and width by bilinear interpolation (the ``up`` of Eq. 5).

    Args:
        x: (N, C, H, W).
        kernel: Of the pyramid whose grid is kept: a pixel of a "box" pyramid lies in the middle of 2x2 pixels of the
            finer level, one of a "burt" pyramid on the first of them.
    """
    if kernel == "burt":
        return _upsample_on_even(x, 0.0)
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def burt_reduce(image: Tensor) -> Tensor:
    """REDUCE (Burt and Adelson, 1983): filter (N, C, H, W) with 1, 4, 6, 4, 1 sixteenths and keep every second pixel.

    Height and width must be even; the edge is repeated. By slices and sums, which stay in fp32 under autocast.
    """
    for _ in range(2):  # the last axis, then the other one
        even, odd = F.pad(image, (2, 2, 0, 0), mode="replicate").unflatten(-1, (-1, 2)).unbind(-1)
        ones, fours = even[..., :-2] + even[..., 2:], odd[..., :-2] + odd[..., 1:-1]
        image = ((ones + 4 * fours + 6 * even[..., 1:-1]) / 16).transpose(-1, -2)
    return image


def burt_expand(image: Tensor) -> Tensor:
    """EXPAND (Burt and Adelson, 1983): insert zeros between the pixels and filter with 1, 4, 6, 4, 1 eighths.

    (N, C, H, W) to (N, C, 2H, 2W); the edge is repeated.
    """
    return _upsample_on_even(image, 1 / 8)


def _upsample_on_even(image: Tensor, side: float) -> Tensor:
    """Double height and width; old pixels, weighted 1 - 2 ``side`` there, lie on the even new ones."""
    for _ in range(2):
        x = F.pad(image, (1, 1, 0, 0), mode="replicate")
        before, after = x[..., :-2], x[..., 2:]
        even = image + side * (before - 2 * image + after)
        image = torch.stack([even, (image + after) / 2], dim=-1).flatten(-2).transpose(-1, -2)
    return image


def up_pixels(x: Tensor) -> Tensor:
    """Apply ``up`` with a box pyramid's grid, for inference on a CPU: half of the time of ``F.interpolate``.

    Args:
        x: (N, C, H, W), fp32, of few channels in channels-last order.
    """
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1)
    tall = x.new_empty(batch, height, 2, width + 2, channels)  # rows of double height, with a column on either side
    above, below = tall[:, :, 0, 1:-1], tall[:, :, 1, 1:-1]
    above[:, 0], below[:, -1] = rows[:, 0], rows[:, -1]
    torch.lerp(rows[:, 1:], rows[:, :-1], 0.25, out=above[:, 1:])
    torch.lerp(rows[:, :-1], rows[:, 1:], 0.25, out=below[:, :-1])
    tall[..., 0, :], tall[..., -1, :] = tall[..., 1, :], tall[..., -2, :]
    tall = tall.view(batch, 2 * height, width + 2, channels).permute(0, 3, 1, 2)
    pairs = F.conv2d(tall, _interpolation_of_pairs(channels))
    return pairs.permute(0, 2, 3, 1).reshape(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


@functools.cache
def _interpolation_of_pairs(channels: int) -> Tensor:
    """Return the weights of a convolution from three pixels to the two new ones of the middle one, (2C, C, 1, 3)."""
    taps = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])
    weight = torch.einsum("pk,cd->pcdk", taps, torch.eye(channels)).flatten(0, 1)[:, :, None]
    return weight.contiguous(memory_format=torch.channels_last)


def box_mean(image: Tensor, factor: int) -> Tensor:
    """Return the mean over factor x factor pixels of (1, C, H, W) in channels-last order.

    Several times as fast as ``avg_pool2d`` on images of few channels.
    """
    _, channels, height, width = image.shape
    blocks = image.permute(0, 2, 3, 1).reshape(height // factor, factor, width // factor, factor, channels)
    rows = functools.reduce(torch.add, blocks.unbind(1))
    pixels = functools.reduce(torch.add, rows.unbind(2))
    return (pixels / factor**2)[None].permute(0, 3, 1, 2)


def down(image: Tensor, kernel: PyramidKernel = "box", *, mean: Mean = F.avg_pool2d) -> Tensor:
    """Halve height and width, which must be even.

    Args:
        image: (N, C, H, W).
        kernel: "box" averages 2x2 pixels; "burt" is :func:`burt_reduce`.
        mean: Averages 2x2 pixels; :func:`box_mean` is faster for one image in channels-last order.
    """
    return burt_reduce(image) if kernel == "burt" else mean(image, 2)


def high_frequencies(fine: Tensor, coarse: Tensor, kernel: PyramidKernel = "box") -> Tensor:
    """Return H_i = I_i - EXPAND(I_{i+1}), the Laplacian pyramid; with "box", EXPAND is bilinear interpolation."""
    return fine - (burt_expand(coarse) if kernel == "burt" else up(coarse))


def image_pyramid(
    image: Tensor, num_levels: int, kernel: PyramidKernel = "box", *, mean: Mean = F.avg_pool2d
) -> list[Tensor]:
    """Return P_I = [I_0, ..., I_l].

    Args:
        image: I_0, (N, C, H, W), height and width multiples of 2^l.
        num_levels: l.
        kernel: See :func:`down`.
        mean: See :func:`down`.

    Raises:
        ValueError: If a side is not a multiple of 2^l.
    """
    height, width = image.shape[-2:]
    step = 2**num_levels
    if height % step or width % step:
        raise ValueError(f"{height}x{width} pixels cannot be halved {num_levels} times; pad to multiples of {step}")
    images = [image]
    for _ in range(num_levels):
        images.append(down(images[-1], kernel, mean=mean))
    return images


def convolve_pixels(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Apply a 3x3 convolution to ``PIXELS`` neighbouring pixels at once, for inference.

    Processors compute 16 output channels at a time, of which a layer with 3 uses 3. Four pixels are 12 channels of a
    3x6 convolution of stride 4, in half of the time.

    Args:
        x: (N, C, H, W), W a multiple of ``PIXELS``.
        layer: 3x3, stride 1, padding 1.
    """
    assert layer.bias is not None
    shifted = [F.pad(layer.weight, (pixel, PIXELS - 1 - pixel)) for pixel in range(PIXELS)]
    weight = torch.cat(shifted).contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x, weight, torch.cat(PIXELS * [layer.bias]), stride=(1, PIXELS), padding=1)
    return y.permute(0, 2, 3, 1).unflatten(3, (PIXELS, layer.out_channels)).flatten(2, 3).permute(0, 3, 1, 2)


def convolve_leaky(x: Tensor, layer: nn.Conv2d, slope: float) -> Tensor:
    """Apply a convolution and a leaky ReLU; in one pass, by oneDNN, for inference on a CPU.

    A leaky ReLU of its own takes a quarter of the time of a convolution from 6 to 16 channels.
    """
    if not _is_inference(x) or x.device.type != "cpu" or not _has_fused_activations(x.dtype):
        return F.leaky_relu(layer(x), slope, inplace=True)
    geometry = layer.padding, layer.stride, layer.dilation, layer.groups
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, layer.weight, layer.bias, *geometry, "leaky_relu", [slope], ""
    )
    return y


@functools.cache
def _has_fused_activations(dtype: torch.dtype) -> bool:
    onednn = torch.ops.mkldnn  # torch has no public name for these operations yet
    if not hasattr(onednn, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or bool(onednn._is_mkldnn_bf16_supported())


def _is_inference(x: Tensor) -> bool:
    """Return whether faster operations apply; channels-first, as exported graphs are, has nothing to gain."""
    without_autograd = not torch.is_grad_enabled() and not torch.is_autocast_enabled(x.device.type)
    return without_autograd and x.is_contiguous(memory_format=torch.channels_last)


class RefiningModule(nn.Module):
    """B_i = phi_2(h(phi_1(Cat(up(B_{i+1}), H_i)))) + up(B_{i+1}) (Eq. 5).

    phi_1 and phi_2 are 3x3 convolutions, h is a leaky ReLU of slope 0.2. phi_2 starts at zero, so that an untrained
    module is bilinear interpolation.

    Args:
        width: Filters of phi_1; 16 in the paper.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.phi_1 = nn.Conv2d(6, width, 3, padding=1)
        self.phi_2 = nn.Conv2d(width, 3, 3, padding=1)
        # Paper: initialisation not stated. Here: phi_2 starts at 0.
        nn.init.zeros_(self.phi_2.weight)
        nn.init.zeros_(self.phi_2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Refine x = Cat(up(B_{i+1}), H_i), (N, 6, H, W), to B_i, (N, 3, H, W)."""
        detail = convolve_leaky(x.to(self.phi_1.weight.dtype), self.phi_1, 0.2)  # half precision after conversion
        wide = _is_inference(detail) and detail.shape[-1] % PIXELS == 0
        return x[:, :3] + (convolve_pixels(detail, self.phi_2) if wide else self.phi_2(detail))


class BlendPyramid(nn.Module):
    """The expansion of the blend layer from the thumbnail to the photograph.

    The paper does not say whether the levels have refining modules of their own. One shared module is used here:
    a photograph may then have any number of levels, more than in training too.

    Args:
        width: Filters of the refining module's first convolution.
        refine: False leaves the refining module out ("without RM" of Table 2): bilinear enlargement alone.
        kernel: Kernel of the image pyramid.
    """

    def __init__(self, width: int = 16, refine: bool = True, kernel: PyramidKernel = "box") -> None:
        super().__init__()
        self.refining = RefiningModule(width) if refine else None
        self.kernel: PyramidKernel = kernel

    def expand(self, B: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return B_i from B_{i+1}, I_i (``fine``) and I_{i+1} (``coarse``): one level of Eq. 5."""
        if self.refining is None:
            return up(B, self.kernel)
        if self.kernel == "burt":
            return self.refining(torch.cat([up(B, "burt"), high_frequencies(fine, coarse, "burt")], dim=1))
        x = torch.cat([B, coarse], dim=1)  # one interpolation of six channels is twice as fast as two of three
        x = up_pixels(x) if _is_inference(x) and x.device.type == "cpu" else up(x)
        high = x[:, 3:]
        if torch.is_grad_enabled():
            x[:, 3:] = fine - high  # H_i
        else:
            torch.sub(fine, high, out=high)
        return self.refining(x)

    def forward(self, B: Tensor, images: Sequence[Tensor]) -> list[Tensor]:
        """Expand the blend layer level by level.

        Args:
            B: B_l, (N, 3, H / 2^l, W / 2^l).
            images: [I_0, ..., I_l].

        Returns:
            [B_0, ..., B_l].
        """
        blends = [B]
        for fine, coarse in zip(reversed(images[:-1]), reversed(images[1:]), strict=True):
            blends.append(self.expand(blends[-1], fine, coarse))
        return blends[::-1]
