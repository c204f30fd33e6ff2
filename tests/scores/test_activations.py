"""Codes are those of every ReLU module, called however often; anything else is reported."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from dtb_builder import errors
from dtb_builder.network import NetworkSpec
from dtb_builder.scores import activation_units, agreement
from dtb_builder.scores.activations import activation_codes, network_agreement
from dtb_builder.space import sample_uniform


class Shared(nn.Module):
    """One ReLU, called twice."""

    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, values: Tensor) -> Tensor:
        return self.relu(-self.relu(values + 0) + 1)


class Functional(nn.Module):
    """A ReLU that is a module, then one of another spelling."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.spelling = spelling

    def forward(self, values: Tensor) -> Tensor:
        values = self.relu(values) - 1
        match self.spelling:
            case "functional":
                return functional.relu(values)
            case "functional in place":
                return functional.relu(values, inplace=True)
            case "torch":
                return torch.relu(values)
            case "method":
                return values.relu()
        return values.relu_()


IMAGES = torch.tensor([[1.0, -1.0, 0.0], [0.5, 2.0, -0.0]])


def test_a_unit_fires_where_its_input_is_above_zero() -> None:
    codes = activation_codes(nn.ReLU(), IMAGES)
    assert codes.dtype == np.bool_
    assert codes.tolist() == [[True, False, False], [True, True, False]]


@pytest.mark.parametrize("inplace", [False, True])
def test_every_call_of_a_shared_module_counts_in_order(inplace: bool) -> None:
    codes = activation_codes(Shared(inplace=inplace), IMAGES)
    assert codes.tolist() == [
        [True, False, False, False, True, True],
        [True, True, False, True, False, True],
    ]


@pytest.mark.parametrize("keyword", [False, True])
def test_a_relu_may_be_called_by_keyword(keyword: bool) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, values: Tensor) -> Tensor:
            return self.relu(input=values) if keyword else self.relu(values)

    assert activation_codes(Network(), IMAGES).sum() == 3


def test_in_place_relus_give_the_same_codes() -> None:
    torch.manual_seed(1)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.ReLU()]
    network = nn.Sequential(*layers)
    in_place = nn.Sequential(
        *(nn.ReLU(inplace=True) if isinstance(layer, nn.ReLU) else layer for layer in layers)
    )
    images = torch.randn(4, 1, 8, 8)
    assert np.array_equal(activation_codes(network, images), activation_codes(in_place, images))


@pytest.mark.parametrize(
    "spelling", ["functional", "functional in place", "torch", "method", "method in place"]
)
def test_a_relu_that_is_no_module_is_reported(spelling: str) -> None:
    message = "got 1 calls of such modules and 1 other calls of relu in Functional"
    with pytest.raises(errors.UnseenReLUError, match=message):
        activation_codes(Functional(spelling), IMAGES)


def test_a_network_without_relus_is_refused() -> None:
    with pytest.raises(errors.UnseenReLUError, match="got 0 calls of such modules and 0 other"):
        network_agreement(nn.Sequential(nn.Linear(3, 3), nn.GELU()), IMAGES)


def test_a_state_that_is_not_a_number_has_no_codes() -> None:
    linear = nn.Linear(3, 3)
    nn.init.constant_(linear.bias, float("nan"))
    network = nn.Sequential(linear, nn.ReLU())
    with pytest.raises(errors.DivergedError, match="an activation is not a number"):
        network_agreement(network, IMAGES)


def test_a_relu_that_sees_other_rows_than_images_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(0), nn.ReLU())
    with pytest.raises(ValueError, match="must have a row for each of 2 images, got 6 rows"):
        network_agreement(network, IMAGES)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([torch.contiguous_format, torch.channels_last]))
def test_the_kernel_of_a_network_is_that_of_its_codes_and_has_the_closed_forms_units(
    index: int, memory_format: torch.memory_format
) -> None:
    genotype = sample_uniform(0, index)
    spec = NetworkSpec(channels=4, layers=1 + index % 6, num_classes=10, image_size=8 + index % 9)
    network = spec.build(genotype)
    images = torch.randn(5, 3, spec.image_size, spec.image_size)
    images = images.contiguous(memory_format=memory_format)
    kernel = network_agreement(network, images)
    assert np.array_equal(kernel.counts, agreement(activation_codes(network, images)).counts)
    assert kernel.activation_units == activation_units(genotype, spec)


def test_more_units_than_fit_in_a_chunk_are_counted_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.randn(4, 1, 10, 10)
    whole = network_agreement(nn.ReLU(), images).counts
    monkeypatch.setattr("dtb_builder.scores.activations._CHUNK", 7)
    monkeypatch.setattr("dtb_builder.scores.kernel._CHUNK", 9)
    assert np.array_equal(network_agreement(nn.ReLU(), images).counts, whole)
    assert np.array_equal(agreement(activation_codes(nn.ReLU(), images)).counts, whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_counts_exactly() -> None:
    images = torch.randn(8, 3, 32, 32)
    on_gpu = network_agreement(nn.ReLU(), images.cuda()).counts
    assert np.array_equal(on_gpu, network_agreement(nn.ReLU(), images).counts)
