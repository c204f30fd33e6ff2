import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dtb_builder.errors import SingularKernelError, UnseenReLUError
from dtb_builder.scores.rbflex import (
    GAMMA_ACTIVATIONS,
    GAMMA_FEATURES,
    log_det_kernel,
    rbflex,
)


def kernel(rows: np.ndarray, gamma: float) -> np.ndarray:
    return np.exp(-gamma * ((rows[:, None] - rows[None, :]) ** 2).sum(-1))


def test_the_determinant_is_that_of_the_kernel() -> None:
    rows = np.random.default_rng(0).random((5, 40))
    centred = rows - rows.mean(0)
    gamma = 1e-5
    expected = np.linalg.slogdet(kernel(rows, gamma)).logabsdet
    assert log_det_kernel(centred @ centred.T, gamma) == pytest.approx(expected, abs=1e-3)


def test_two_equal_images_are_singular() -> None:
    rows = np.array([[0.0, 1], [0, 1], [1, 0]])
    centred = rows - rows.mean(0)
    with pytest.raises(SingularKernelError, match="wanted 3 images that differ"):
        log_det_kernel(centred @ centred.T, 1e-9)


def test_the_score_is_of_scaled_activations_and_of_what_the_last_module_reads() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 2))
    images = torch.randn(4, 6)
    with torch.no_grad():
        activations, features = network[:2](images), network[:4](images)
    logs = []
    for values, gamma in ((activations, GAMMA_ACTIVATIONS), (features, GAMMA_FEATURES)):
        rows = scaled(values)
        centred = rows - rows.mean(0)
        assert (rows.min(), rows.max()) == (0, 1)
        logs.append(log_det_kernel(centred @ centred.T, gamma))
    assert rbflex(network, images) == pytest.approx(4 * sum(logs))


def scaled(values: Tensor) -> np.ndarray:
    rows = values.double().numpy()
    ranges = np.ptp(rows, axis=0)
    return (rows - rows.min(0)) / np.where(ranges > 0, ranges, 1)


def test_other_gammas_move_all_networks_alike() -> None:
    rng = np.random.default_rng(1)
    moves = []
    for _ in range(2):
        rows = rng.random((4, 9))
        rows -= rows.mean(0)
        moves.append(log_det_kernel(rows @ rows.T, 1e-9) - log_det_kernel(rows @ rows.T, 1e-12))
    assert moves == pytest.approx([3 * math.log(1000)] * 2)


def test_a_network_without_relus_is_refused() -> None:
    with pytest.raises(UnseenReLUError, match=r"wanted a network with nn\.ReLU modules, got none"):
        rbflex(nn.Sequential(nn.Linear(2, 2)), torch.randn(3, 2))
