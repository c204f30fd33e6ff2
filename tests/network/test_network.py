"""The network: sizes and names as published, any image size, drop-path."""

from hashlib import sha256

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dtb_builder.network import NetworkSpec
from dtb_builder.network.cell import DropPath
from dtb_builder.network.network import Network
from dtb_builder.space import NAMED, sample_uniform

SMALL = NetworkSpec(channels=4, layers=5, num_classes=10, image_size=32, auxiliary=True)


@pytest.mark.parametrize(
    ("name", "channels", "layers", "without", "with_head"),
    [
        ("DARTS_V2", 36, 20, 3_349_342, 3_825_768),
        ("DARTS_V1", 36, 20, 3_169_414, 3_645_840),
        ("PC_DARTS_cifar", 36, 20, 3_634_678, 4_111_104),
        ("DARTS_V2", 32, 8, 919_722, 1_387_956),
        ("DARTS_V2", 16, 8, 246_106, 681_572),
    ],
)
def test_a_network_has_as_many_parameters_as_the_original(
    name: str, channels: int, layers: int, without: int, with_head: int
) -> None:
    for auxiliary, expected in [(False, without), (True, with_head)]:
        spec = NetworkSpec(
            channels=channels, layers=layers, num_classes=10, image_size=32, auxiliary=auxiliary
        )
        with torch.device("meta"):
            network = spec.build(NAMED[name])
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_published_weights_find_their_names_in_their_order() -> None:
    spec = NetworkSpec(channels=36, layers=20, num_classes=10, image_size=32, auxiliary=True)
    with torch.device("meta"):
        names = list(spec.build(NAMED["DARTS_V2"]).state_dict())
    assert len(names) == 1650
    # Computed from the names of quark0/darts' NetworkCIFAR.
    expected = "d93c98e17b930126c59bcd92945edf1a7075cb65820125cfc64f645f1fe242f8"
    assert sha256("\n".join(names).encode()).hexdigest() == expected


def test_a_network_of_one_cell_has_these_parameters() -> None:
    spec = NetworkSpec(channels=4, layers=1, num_classes=10, image_size=16, auxiliary=True)
    names = [name for name, _ in spec.build(NAMED["DARTS_V2"]).named_parameters()]
    assert names == [
        "stem.0.weight",
        "stem.1.weight",
        "stem.1.bias",
        "cells.0.preprocess0.op.1.weight",
        "cells.0.preprocess0.op.2.weight",
        "cells.0.preprocess0.op.2.bias",
        "cells.0.preprocess1.op.1.weight",
        "cells.0.preprocess1.op.2.weight",
        "cells.0.preprocess1.op.2.bias",
        "auxiliary_head.features.2.weight",
        "auxiliary_head.features.3.weight",
        "auxiliary_head.features.3.bias",
        "auxiliary_head.features.5.weight",
        "auxiliary_head.features.6.weight",
        "auxiliary_head.features.6.bias",
        "auxiliary_head.classifier.weight",
        "auxiliary_head.classifier.bias",
        "classifier.weight",
        "classifier.bias",
    ]


def in_format(network: Network, memory_format: torch.memory_format) -> Network:
    """The network in a memory format, which torch's type stub does not know as an argument."""
    return network.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("input_channels", [1, 3])
@pytest.mark.parametrize("image_size", [8, 9, 28, 32, 33, 64])
def test_channels_last_gives_the_same_logits_on_images_of_any_size(
    image_size: int, input_channels: int
) -> None:
    spec = NetworkSpec(
        channels=4,
        layers=5,
        num_classes=7,
        input_channels=input_channels,
        image_size=image_size,
    )
    network = spec.build(sample_uniform(seed=1, index=image_size))
    images = torch.randn(4, input_channels, image_size, image_size)
    plain = network(images)
    last = in_format(network, torch.channels_last)(images.to(memory_format=torch.channels_last))
    assert plain.shape == (4, 7)
    torch.testing.assert_close(plain, last, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("image_size", [8, 9, 28, 32, 64])
def test_every_parameter_that_logits_depend_on_gets_a_finite_gradient(
    image_size: int, memory_format: torch.memory_format
) -> None:
    spec = NetworkSpec(channels=4, layers=5, num_classes=7, image_size=image_size)
    network = in_format(spec.build(NAMED["DARTS_V1"]), memory_format)
    images = torch.randn(4, 3, image_size, image_size).to(memory_format=memory_format)
    network(images).logsumexp(dim=1).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@settings(max_examples=15, deadline=None)
@given(index=st.integers(0, 10**6), layers=st.integers(1, 6), image_size=st.integers(8, 20))
def test_any_genotype_of_any_depth_classifies_images_of_any_size(
    index: int, layers: int, image_size: int
) -> None:
    spec = NetworkSpec(channels=2, layers=layers, num_classes=5, image_size=image_size)
    network = spec.build(sample_uniform(seed=0, index=index))
    assert network(torch.randn(2, 3, image_size, image_size)).shape == (2, 5)


@pytest.mark.parametrize(("layers", "image_size"), [(1, 15), (1, 20), (2, 32), (8, 29), (8, 40)])
def test_the_auxiliary_head_answers_in_training_only(layers: int, image_size: int) -> None:
    spec = NetworkSpec(
        channels=2, layers=layers, num_classes=10, image_size=image_size, auxiliary=True
    )
    network = spec.build(NAMED["DARTS_V2"])
    images = torch.randn(2, 3, image_size, image_size)
    assert [logits.shape for logits in network(images)] == [(2, 10), (2, 10)]
    assert network.eval()(images).shape == (2, 10)


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_the_auxiliary_head_does_not_change_the_logits(layers: int) -> None:
    size = 16 if layers == 1 else 32
    spec = NetworkSpec(channels=2, layers=layers, num_classes=5, image_size=size, auxiliary=True)
    network = spec.build(NAMED["DARTS_V2"])
    images = torch.randn(2, 3, size, size)
    logits, _ = network(images)
    network.auxiliary_head = None
    assert torch.equal(network(images), logits)


def test_equal_seeds_give_equal_weights() -> None:
    torch.manual_seed(5)
    first = SMALL.build(NAMED["SGAS"]).state_dict()
    torch.manual_seed(5)
    second = SMALL.build(NAMED["SGAS"]).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def training_logits(network: Network, images: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.stack(network(images))


def test_drop_path_changes_training_alone_and_follows_the_seed() -> None:
    network = SMALL.build(NAMED["DARTS_V2"])
    images = torch.randn(4, 3, 32, 32)
    plain = training_logits(network, images, seed=1)
    network.set_drop_path(0.3)
    dropped = training_logits(network, images, seed=1)
    assert not torch.equal(dropped, plain)
    assert torch.equal(dropped, training_logits(network, images, seed=1))
    assert not torch.equal(dropped, training_logits(network, images, seed=2))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_drop_path_is_set_in_every_cell() -> None:
    network = SMALL.build(NAMED["DARTS_V2"])
    network.set_drop_path(0.25)
    modules = [module for module in network.modules() if isinstance(module, DropPath)]
    assert [module.probability for module in modules] == [0.25] * SMALL.layers


@pytest.mark.parametrize("probability", [-0.1, 1.0, float("nan")])
def test_a_drop_path_probability_outside_its_range_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\), got"):
        SMALL.build(NAMED["DARTS_V2"]).set_drop_path(probability)


def test_every_relu_is_a_module_that_hooks_can_see() -> None:
    network = SMALL.build(NAMED["DARTS_V2"])
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    seen: set[nn.Module] = set()
    for relu in relus:
        relu.register_forward_hook(lambda module, _inputs, _output: seen.add(module))
    network(torch.randn(2, 3, 32, 32))
    assert seen == set(relus)
