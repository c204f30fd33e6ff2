"""Operations on maps of even and odd size."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, pad, relu

from dtb_builder.network.operations import DilatedConvolution, FactorizedReduce, make_operation
from dtb_builder.space import OPERATIONS


@pytest.mark.parametrize("size", [4, 5, 7, 8, 9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_stride_of_two_halves_a_map_and_rounds_up(name: str, stride: int, size: int) -> None:
    maps = make_operation(name, 4, stride)(torch.randn(2, 4, size, size))
    assert maps.shape == (2, 4, -(-size // stride), -(-size // stride))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_leaves_its_input_alone(name: str, stride: int) -> None:
    maps = torch.randn(2, 4, 8, 8)
    before = maps.clone()
    make_operation(name, 4, stride)(maps)
    assert torch.equal(maps, before)


@pytest.mark.parametrize("size", [8, 9])
def test_factorized_reduce_reads_the_even_pixels_and_the_odd_ones(size: int) -> None:
    reduce = FactorizedReduce(3, 4)
    maps = torch.randn(2, 3, size, size)
    even = conv2d(relu(maps), reduce.conv_1.weight, stride=2)
    shifted = pad(relu(maps), (0, size % 2, 0, size % 2))[:, :, 1:, 1:]
    odd = conv2d(shifted, reduce.conv_2.weight, stride=2)
    torch.testing.assert_close(reduce(maps), reduce.bn(torch.cat([even, odd], dim=1)))


@pytest.mark.parametrize(
    ("name", "offsets"),
    [
        ("sep_conv_3x3", range(-2, 3)),
        ("sep_conv_5x5", range(-4, 5)),
        ("dil_conv_3x3", range(-2, 3, 2)),
        ("dil_conv_5x5", range(-4, 5, 2)),
    ],
)
def test_a_convolution_sees_the_pixels_that_its_name_says(name: str, offsets: range) -> None:
    operation = make_operation(name, 2, 1).eval()
    for parameter in operation.parameters():
        nn.init.ones_(parameter)
    maps = torch.ones(1, 2, 15, 15, requires_grad=True)
    operation(maps)[0, 0, 7, 7].backward()
    assert maps.grad is not None
    seen = {(i - 7, j - 7) for i, j in maps.grad[0, 0].nonzero().tolist()}
    assert seen == {(i, j) for i in offsets for j in offsets}


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 6)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_dilated_convolution_is_torch_s(
    kernel_size: int, stride: int, size: tuple[int, int]
) -> None:
    operation = make_operation(f"dil_conv_{kernel_size}x{kernel_size}", 4, stride).double()
    (convolution,) = (m for m in operation.modules() if isinstance(m, DilatedConvolution))
    maps = torch.randn(3, 4, *size, dtype=torch.float64, requires_grad=True)
    inputs = (maps, convolution.weight)
    one = convolution(maps)
    two = conv2d(*inputs, stride=stride, padding=kernel_size - 1, dilation=2, groups=4)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    gradient = torch.randn_like(one)
    for a, b in zip(
        torch.autograd.grad(one, inputs, gradient),
        torch.autograd.grad(two, inputs, gradient),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_only_a_skip_of_stride_one_is_the_identity() -> None:
    assert isinstance(make_operation("skip_connect", 4, 1), nn.Identity)
    assert isinstance(make_operation("skip_connect", 4, 2), FactorizedReduce)


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an operation of max_pool_3x3, .* got 'none'"):
        make_operation("none", 4, 1)
