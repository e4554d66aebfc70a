"""StyleGAN2's blocks: by hand, by property, in half precision, and as ONNX."""

import io
import math

import pytest
import torch
import torch.nn.functional as F
from retouch_common.layers.equalised import EqualConv2d
from retouch_common.layers.resample import downsample2d, upsample2d
from retouch_common.layers.stylegan2 import (
    MappingNetwork,
    NoiseInjection,
    ResBlockDown,
    StyledConv,
    ToRGB,
    minibatch_stddev,
    pixel_norm,
)
from retouch_common.testing.modulation import use_grouped
from torch import Tensor, nn

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


class Stack(nn.Module):
    """All blocks: a picture (N, 3, 16, 16) goes down to 4x4 and comes back, (N, 3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = EqualConv2d(3, 8, 3, activation=True)
        self.down = nn.Sequential(ResBlockDown(8, 12), ResBlockDown(12, 16))
        self.mapping = MappingNetwork(16, 10, num_layers=2)
        self.first = StyledConv(16, 16, 10, size=4)
        self.second = StyledConv(16, 12, 10, up=True, size=8)
        self.rgb_first, self.rgb_second = ToRGB(16, 10), ToRGB(12, 10)
        for layer in (self.first, self.second):
            assert layer.noise is not None
            layer.noise.strength.data.fill_(0.5)
            layer.bias.data.normal_()

    def forward(self, image: Tensor) -> Tensor:
        x = self.down(self.stem(image))
        style = self.mapping(x.mean(dim=(2, 3)))
        x = self.first(x, style)
        rgb = self.rgb_first(x, style)
        return self.rgb_second(self.second(x, style), style) + upsample2d(rgb)


def test_pixel_norm() -> None:
    torch.testing.assert_close(pixel_norm(torch.tensor([[3.0, 4.0]])), torch.tensor([[3.0, 4.0]]) / math.sqrt(12.5))
    x = pixel_norm(100 * torch.randn(3, 8, 4, 4).bfloat16())
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.square().mean(dim=1), torch.ones(3, 4, 4))


def test_mapping_sees_the_direction_only() -> None:
    mapping = MappingNetwork(6, 10, num_layers=3)
    z = torch.randn(4, 6)
    torch.testing.assert_close(mapping(17 * z), mapping(z), rtol=1e-4, atol=1e-5)
    assert (mapping(-z) - mapping(z)).abs().max() > 0.1


def test_mapping_by_hand() -> None:
    mapping = MappingNetwork(2, 1, num_layers=1)
    layer = mapping.layers[0]
    layer.weight.data = torch.tensor([[100.0, -200.0]])
    layer.bias.data.fill_(50.0)
    # lr_mul = 0.01: weights (1, -2) / sqrt(2), bias 0.5; the code (3, 4) / sqrt(12.5)
    z = (3 - 8) / math.sqrt(12.5) / math.sqrt(2) + 0.5
    assert mapping(torch.tensor([[3.0, 4.0]])).item() == pytest.approx(math.sqrt(2) * 0.2 * z, rel=1e-5)


def test_mapping_is_as_long_as_asked_and_exact_inside_autocast() -> None:
    mapping, z = MappingNetwork(6, 10, num_layers=5, lr_mul=0.1), torch.randn(2, 6)
    assert [tuple(p.shape) for p in mapping.parameters()] == [(10, 6), (10,), *[(10, 10), (10,)] * 4]
    with torch.autocast("cpu", torch.bfloat16):
        inside, rounded = mapping(z), mapping.layers(pixel_norm(z))
    assert (rounded.dtype, inside.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(inside, mapping(z))
    assert mapping.bfloat16()(z.bfloat16()).dtype == torch.bfloat16


def test_noise_is_random_while_training_and_fixed_afterwards() -> None:
    layer, x = NoiseInjection(8), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(layer(x.clone()), x)  # the strength begins at 0
        layer.strength.fill_(0.5)
        first, second = (layer(x.clone()) - x for _ in range(2))
        assert (first - second).abs().max() > 0.1
        torch.testing.assert_close(first, first[:, :1].expand_as(first))  # all channels alike
        assert (first[0] - first[1]).abs().max() > 0.1  # samples not
        layer.eval()
        added = layer(x.clone()) - x
        torch.testing.assert_close(added, 0.5 * layer.fixed.expand_as(x))
        torch.testing.assert_close(layer(x.clone(), gain=3.0) - x, 3 * added)


def test_fixed_noise_comes_from_its_seed_and_is_not_saved() -> None:
    a, b, c = NoiseInjection(16, seed=1), NoiseInjection(16, seed=1), NoiseInjection(16, seed=2)
    assert torch.equal(a.fixed, b.fixed)
    assert not torch.equal(a.fixed, c.fixed)
    assert list(a.state_dict()) == ["strength"]
    # The numbers belong to saved weights: they may never change.
    expected = torch.tensor([1.62434536, -0.61175641, -0.52817175, -1.07296862])
    torch.testing.assert_close(a.fixed.flatten()[:4], expected)
    large = NoiseInjection(64).fixed
    assert abs(large.mean()) < 0.05
    assert large.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("up", [True, False])
def test_styled_convolution_is_its_steps_in_order(up: bool) -> None:
    layer = StyledConv(6, 5, 7, up=up, size=8).eval()
    layer.bias.data.normal_()
    layer.noise.strength.data.fill_(0.7)
    x, style = torch.randn(2, 6, *[4 if up else 8] * 2), torch.randn(2, 7)
    y = layer.conv(x, style) + 0.7 * layer.noise.fixed + layer.bias[:, None, None]
    expected = math.sqrt(2) * F.leaky_relu(y, 0.2)
    torch.testing.assert_close(layer(x, style), expected, rtol=0, atol=1e-5)


def test_layers_of_one_size_have_noise_of_their_own() -> None:
    a, b = StyledConv(4, 4, 2, size=8, up=True), StyledConv(4, 4, 2, size=8)
    assert not torch.equal(a.noise.fixed, b.noise.fixed)


def test_to_rgb_is_not_demodulated() -> None:
    layer = ToRGB(2, 3, out_channels=1)
    layer.conv.weight.data = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    layer.conv.affine.weight.data.zero_()
    layer.conv.affine.bias.data = torch.tensor([2.0, 1.0])
    layer.bias.data.fill_(0.5)
    x, style = torch.tensor([1.0, 5.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4), torch.zeros(1, 3)
    value = (2 * 3 * 1 + 4 * 5) / math.sqrt(2) + 0.5
    torch.testing.assert_close(layer(x, style), torch.full((1, 1, 4, 4), value))


def test_residual_block_is_its_branches_over_root_two() -> None:
    block, x = ResBlockDown(3, 5), torch.randn(2, 3, 8, 8)
    shortcut = F.conv2d(downsample2d(x), block.shortcut.weight / math.sqrt(3))
    torch.testing.assert_close(block(x), (block.body(x) + shortcut) / math.sqrt(2))
    assert block(x).shape == (2, 5, 4, 4)
    assert sorted(n for n, _ in block.named_parameters() if "bias" in n) == ["body.0.bias", "body.1.bias"]


def test_minibatch_stddev_by_hand() -> None:
    x = torch.zeros(8, 2, 1, 2)  # the groups are the even and the odd samples
    x[0, 0, 0] = torch.tensor([2.0, 4.0])
    x[1, 1, 0] = torch.tensor([0.0, 8.0])
    y = minibatch_stddev(x)
    assert torch.equal(y[:, :2], x)
    # the deviation of (a, 0, 0, 0) is a sqrt(3) / 4: the means are of 2 and 4 over 4 values, and of 8 over 4
    expected = math.sqrt(3) / 4 * torch.tensor([1.5, 2.0] * 4).reshape(8, 1, 1, 1).expand(8, 1, 1, 2)
    torch.testing.assert_close(y[:, 2:], expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("batch", "group"), [(1, 1), (2, 2), (3, 3), (5, 1), (6, 3), (7, 1), (8, 4), (10, 2)])
def test_minibatch_stddev_takes_the_largest_group_that_divides(batch: int, group: int) -> None:
    x = torch.randn(batch, 4, 3, 3)
    y = minibatch_stddev(x)
    assert y.shape == (batch, 5, 3, 3)
    for n in range(batch):
        members = x[n % (batch // group) :: batch // group]
        assert len(members) == group
        expected = members.var(dim=0, correction=0).sqrt().mean()
        torch.testing.assert_close(y[n, 4], expected.expand(3, 3), rtol=0, atol=2e-4)


def test_minibatch_stddev_of_equal_samples() -> None:
    x = torch.randn(1, 4, 3, 3).expand(4, -1, -1, -1).clone().requires_grad_()
    y = minibatch_stddev(x)[:, 4:]
    assert y.abs().max() < 1e-8
    y.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_every_parameter_of_a_stack_learns() -> None:
    model = Stack()
    model(torch.randn(2, 3, 16, 16)).square().mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


def test_a_gradient_penalty_can_be_learnt_from() -> None:
    """R1 needs the second derivative of the discriminator's blocks."""
    model = nn.Sequential(EqualConv2d(2, 3, 3, activation=True), ResBlockDown(3, 4)).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: minibatch_stddev(model(x)), (x,))
    (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert model[1].body[1].weight.grad.abs().max() > 0


@pytest.mark.parametrize("memory_format", FORMATS)
def test_blocks_keep_the_memory_format(memory_format: torch.memory_format) -> None:
    model = Stack().eval().to(memory_format=memory_format)
    x, style = torch.randn(2, 16, 4, 4).contiguous(memory_format=memory_format), torch.randn(2, 10)
    for y in (
        model.down(model.stem(torch.randn(2, 3, 16, 16).contiguous(memory_format=memory_format))),
        model.first(x, style),
        model.second(x, style),
        minibatch_stddev(x),
    ):
        assert y.is_contiguous(memory_format=memory_format)


@torch.no_grad()
def test_a_stack_agrees_across_forms_formats_and_precisions() -> None:
    model, image = Stack().eval(), torch.randn(2, 3, 16, 16)
    expected = model(image)
    torch.testing.assert_close(model(image.contiguous(memory_format=torch.channels_last)), expected, rtol=0, atol=1e-5)
    for dtype, error in ((torch.bfloat16, 0.05), (torch.float16, 0.01)):
        with torch.autocast("cpu", dtype):
            y = model(image)
        assert y.dtype == dtype
        assert (y.float() - expected).abs().max() < error * expected.abs().max()
    torch.testing.assert_close(use_grouped(model)(image), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_onnx_computes_the_same() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, image = Stack().eval(), torch.randn(1, 3, 16, 16)
    program = torch.onnx.export(model, (image,), dynamo=True, opset_version=18, verbose=False)
    buffer = io.BytesIO()
    program.save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    for seen in (image, torch.randn(1, 3, 16, 16)):
        (found,) = session.run(None, {session.get_inputs()[0].name: seen.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), model(seen), rtol=0, atol=1e-5)


@torch.no_grad()
def test_compiles_into_one_graph() -> None:
    model, image = Stack().eval(), torch.randn(2, 3, 16, 16)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), model(image))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(image), model(image))
