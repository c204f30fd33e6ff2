"""Scores beside the published table of NAS-Bench-101 cells."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from slow_bootstrap import bootstrap
from suite_zero import cells, column, initialise
from torch import Tensor, nn

from dtb_builder.scores import wot
from dtb_builder.scores.activations import network_agreement
from dtb_builder.scores.size import l2_norm, multiply_accumulates
from dtb_builder.scores.synflow import synflow
from dtb_builder.statistics import kendall_tau
from dtb_builder.tables.network101 import Network101

ACCURACIES = column("nb101_cells", "val_accuracy")
WINDOWS: dict[object, int] = {1: 9, 2: 4}
"""Pixels that a pooling of NAS-Bench-101 looks at, by its stride."""


@pytest.mark.parametrize(("name", "tau"), [("params", 0.492), ("flops", 0.496)])
def test_a_columns_tau_is_the_published_one(name: str, tau: float) -> None:
    assert round(kendall_tau(column("nb101_cells", name), ACCURACIES), 3) == tau


def test_published_flops_are_multiply_accumulates_and_what_other_layers_do() -> None:
    """For each value they have 2 of a batch norm, 1 of a ReLU and a window's size of a pooling."""
    published = [round(flops * 1e6) for flops in column("nb101_cells", "flops")]
    for cell, flops in zip(cells()[::25], published[::25], strict=True):
        with torch.device("meta"):
            network = Network101(cell).eval()
        others = 0

        def count(module: nn.Module, _: object, output: Tensor) -> None:
            nonlocal others
            if isinstance(module, nn.BatchNorm2d):
                others += 2 * output.numel()
            elif isinstance(module, nn.ReLU):
                others += output.numel()
            elif isinstance(module, nn.MaxPool2d):
                others += output.numel() * WINDOWS[module.stride]

        hooks = [module.register_forward_hook(count) for module in network.modules()]
        network(torch.empty(1, 3, 32, 32, device="meta"))
        for hook in hooks:
            hook.remove()
        assert multiply_accumulates(network, (3, 32, 32)) + others == flops


def test_the_logarithm_of_synflow_is_the_published_one() -> None:
    # Of weights drawn anew: the published ones are not known, and cells differ by dozens.
    published = column("nb101_cells", "synflow")
    for i in range(0, 250, 50):
        torch.manual_seed(i)
        network = Network101(cells()[i])
        initialise(network)
        assert np.log(synflow(network, (3, 32, 32))) == pytest.approx(published[i], abs=0.25)


def test_l2_norm_is_the_published_one() -> None:
    published = column("nb101_cells", "l2_norm")
    for i in range(0, 250, 50):
        torch.manual_seed(i)
        network = Network101(cells()[i])
        initialise(network)
        assert l2_norm(network) == pytest.approx(published[i], rel=5e-3)


def test_wot_ranks_the_cells_as_has_been_published() -> None:
    """With a sixteenth of the channels and a quarter of the pixels; the benchmark has them all."""
    pixels, _ = load_digits(return_X_y=True)
    digits = torch.from_numpy(np.asarray(pixels)[:32].reshape(32, 1, 8, 8)).float()
    images = nn.functional.interpolate(digits, size=16, mode="bilinear")
    images = ((images - images.mean()) / images.std()).expand(-1, 3, -1, -1)
    images = images.contiguous(memory_format=torch.channels_last)
    scores = []
    for i, cell in enumerate(cells()[:200]):
        torch.manual_seed(i)
        scores.append(wot(network_agreement(Network101(cell, channels=8), images)))
    interval = bootstrap(kendall_tau, scores, ACCURACIES[:200], np.random.default_rng(0))
    assert 0.34 in interval
    assert interval.low > 0.1
