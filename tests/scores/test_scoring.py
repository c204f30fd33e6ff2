import pytest
import torch
from torch import nn
from torch.nn import functional

from dtb_builder.network import NetworkSpec
from dtb_builder.network.network import Network
from dtb_builder.scores import (
    activation_units,
    distinguishing_ability,
    mean_hamming_distance,
    wot,
)
from dtb_builder.scores.activations import network_agreement
from dtb_builder.scores.az_nas import az_nas
from dtb_builder.scores.gradients import fisher, gradient_norm, grasp, plain, snip, zico
from dtb_builder.scores.graph import Graph
from dtb_builder.scores.jacobian import epe_nas, jacob_cov
from dtb_builder.scores.meco import meco
from dtb_builder.scores.names import ARCHITECTURE_SCORES, KERNEL_SCORES, SCORES
from dtb_builder.scores.rbflex import rbflex
from dtb_builder.scores.sahd import sahd
from dtb_builder.scores.scoring import Probe, score_network
from dtb_builder.scores.size import l2_norm, multiply_accumulates, num_parameters
from dtb_builder.scores.swap import swap, swap_in_space
from dtb_builder.scores.synflow import synflow
from dtb_builder.scores.te_nas import crops, linear_regions, ntk_condition
from dtb_builder.scores.zen import zen
from dtb_builder.space import NAMED

SHAPE = (1, 8, 8)
SWAPS = {"swap", "swap_regularised"}
AZ_PARTS = ("az_expressivity", "az_progressivity", "az_trainability")
SPEC = NetworkSpec(channels=2, layers=3, num_classes=3, input_channels=1, image_size=8)


@pytest.fixture
def network() -> Network:
    return SPEC.build(NAMED["DARTS_V2"])


@pytest.fixture
def probe() -> Probe:
    return Probe(torch.randn(8, *SHAPE), torch.arange(8) % 3, features="cells.2")


def test_every_score_is_what_its_own_module_computes(network: Network, probe: Probe) -> None:
    images, labels = probe.images, probe.labels
    kernel = network_agreement(network, images)
    generator = torch.Generator().manual_seed(0)
    az = az_nas(
        network,
        (16, *SHAPE),
        torch.Generator().manual_seed(0),
        modules=["stem", "cells.0", "cells.1", "cells.2"],
    )
    expected = {
        "wot": wot(kernel),
        "distinguishing_ability": distinguishing_ability(kernel),
        "activation_units": kernel.activation_units,
        "mean_hamming_distance": mean_hamming_distance(kernel),
        "num_parameters": num_parameters(network),
        "multiply_accumulates": multiply_accumulates(network, SHAPE),
        "l2_norm": l2_norm(network),
        "plain": plain(Graph(network, images, labels)),
        "fisher": fisher(Graph(network, images, labels)),
        "grasp": grasp(Graph(network, images, labels, twice=True)),
        "epe_nas": epe_nas(Graph(network, images, labels)),
        "input_edges": 7,
        "cell_depth": 2,
        "gradient_norm": gradient_norm(Graph(network, images, labels)),
        "snip": snip(Graph(network, images, labels)),
        "synflow": synflow(network, SHAPE),
        "jacob_cov": jacob_cov(Graph(network, images)),
        "swap": swap(network, images),
        "swap_regularised": swap_in_space(swap(network, images), network),
        "sahd": sahd(network, images),
        "zico": zico(network, [(images[:4], labels[:4]), (images[4:], labels[4:])]),
        "rbflex": rbflex(network, images),
        "meco": meco(network, 1, torch.Generator().manual_seed(0)),
        "ntk_condition": ntk_condition(network, images),
        "linear_regions": linear_regions(
            network, crops(images, 3, 1000, torch.Generator().manual_seed(0))
        ),
        **dict(zip(AZ_PARTS, az, strict=True)),
        "zen": zen(network, (16, *SHAPE), generator, features="cells.2"),
    }
    scored = score_network(network, probe, SCORES)
    assert scored.values == pytest.approx(expected, rel=1e-6)
    assert scored.values.keys() == scored.seconds.keys() == SCORES.keys()
    assert min(scored.seconds.values()) > 0
    assert not scored.errors
    assert scored.singular is False
    assert scored.smallest_eigenvalue == kernel.smallest_eigenvalue


@pytest.mark.parametrize("name", SCORES)
def test_one_score_is_computed_without_the_others(
    name: str, network: nn.Module, probe: Probe
) -> None:
    scored = score_network(network, probe, [name])
    assert list(scored.values) == [name]


def test_training_leaves_the_scores_of_an_architecture_alone(
    network: nn.Module, probe: Probe
) -> None:
    before = score_network(network, probe, SCORES).values
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    after = score_network(network, probe, SCORES).values
    assert {name for name in SCORES if before[name] == after[name]} - SWAPS == (ARCHITECTURE_SCORES)


def test_a_singular_kernel_is_flagged_and_has_neither_wot_nor_ability(
    network: nn.Module, probe: Probe
) -> None:
    images = probe.images.clone()
    images[1] = images[0]
    scored = score_network(network, Probe(images, probe.labels, "cells.2"), KERNEL_SCORES)
    assert scored.singular is True
    assert scored.errors.keys() == {"wot", "distinguishing_ability"}
    assert scored.errors["wot"].startswith("SingularKernelError")
    assert scored.values.keys() == {"activation_units", "mean_hamming_distance"}


def test_a_score_that_fails_stands_beside_those_that_do_not(
    network: nn.Module, probe: Probe
) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.body(functional.relu(images))

    scored = score_network(Functional(), probe, ["wot", "num_parameters"])
    assert scored.errors.keys() == {"wot"}
    assert "1 other calls of relu" in scored.errors["wot"]
    assert scored.values.keys() == {"num_parameters"}


def test_weights_that_are_no_numbers_have_no_score_of_images(
    network: nn.Module, probe: Probe
) -> None:
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    scored = score_network(network, probe, ["wot", "snip", "jacob_cov", "synflow"])
    assert scored.values == {}
    assert all("DivergedError" in reason for reason in scored.errors.values())


def test_units_that_hooks_have_missed_are_noticed(network: nn.Module, probe: Probe) -> None:
    units = activation_units(NAMED["DARTS_V2"], SPEC)
    scored = score_network(network, probe, ["wot"], activation_units=units + 1)
    assert f"wanted the {units + 1} activation units of the closed" in scored.errors["wot"]
    assert f"got {units} from hooks" in scored.errors["wot"]


def test_an_unknown_score_is_refused(network: nn.Module, probe: Probe) -> None:
    with pytest.raises(ValueError, match="unknown scores nope"):
        score_network(network, probe, ["wot", "nope"])


def test_labels_must_be_as_many_as_images(probe: Probe) -> None:
    with pytest.raises(ValueError, match=r"labels must have shape \(8,\), got \(7,\)"):
        Probe(probe.images, probe.labels[1:], "cells.2")


def test_a_network_of_another_space_has_no_cells_to_look_at(probe: Probe) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    scored = score_network(other, probe, ["input_edges", "num_parameters"])
    assert scored.values == {"num_parameters": 195}
    assert "wanted a network of the DARTS space, got Sequential" in scored.errors["input_edges"]
