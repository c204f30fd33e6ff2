import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_bootstrap import bootstrap

from dtb_builder.statistics import kendall_tau, spearman_rho
from dtb_builder.statistics.resampling import (
    draw_resamples,
    interval_of,
    kendall_taus,
    spearman_rhos,
)

WHOLE = st.lists(st.integers(-3, 3), min_size=6, max_size=6)


@given(WHOLE, WHOLE, st.integers(0, 2**32))
def test_a_resamples_correlation_is_that_of_the_repeated_networks(
    scores: list[int], accuracies: list[int], seed: int
) -> None:
    x, y = np.array(scores, float), np.array(accuracies, float)
    counts = draw_resamples(6, 5, np.random.default_rng(seed))
    for ours, theirs in ((kendall_taus, kendall_tau), (spearman_rhos, spearman_rho)):
        found = ours(x, y, counts)
        for value, count in zip(found, counts.astype(int), strict=True):
            a, b = np.repeat(x, count), np.repeat(y, count)
            if (a == a[0]).all() or (b == b[0]).all():
                assert not np.isfinite(value)
            else:
                assert value == pytest.approx(theirs(a, b), abs=1e-12)


def test_each_resample_draws_as_many_networks_as_there_are() -> None:
    counts = draw_resamples(7, 100, np.random.default_rng(0))
    assert (counts.sum(axis=1) == 7).all()
    assert (counts != counts[0]).any()


def test_the_interval_is_that_of_the_slow_bootstrap() -> None:
    rng = np.random.default_rng(1)
    y = rng.standard_normal(40)
    x = y + rng.standard_normal(40)
    slow = bootstrap(kendall_tau, x, y, np.random.default_rng(2), num_resamples=400)
    counts = draw_resamples(40, 4000, np.random.default_rng(3))
    fast = interval_of(kendall_tau(x, y), kendall_taus(x, y, counts))
    assert fast.value == slow.value
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.04)


def test_resamples_without_a_value_are_left_out() -> None:
    interval = interval_of(0.5, np.array([np.nan, 0.25, 0.75]), level=0.5)
    assert (interval.low, interval.high) == (0.375, 0.625)
    with pytest.raises(ValueError, match="no resample has a value"):
        interval_of(0.5, np.array([np.nan]))


def test_too_few_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted at least 2 networks and 1 resample, got 1 and 5"):
        draw_resamples(1, 5, np.random.default_rng(0))


def sample(num_networks: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and accuracies that are correlated."""
    rng = np.random.default_rng(seed)
    accuracies = rng.standard_normal(num_networks)
    return accuracies + rng.standard_normal(num_networks), accuracies


def test_the_interval_holds_the_populations_tau_about_as_often_as_it_says() -> None:
    truth = kendall_tau(*sample(20_000, seed=99))
    held = 0
    for seed in range(200):
        x, y = sample(40, seed)
        counts = draw_resamples(40, 200, np.random.default_rng(seed))
        held += truth in interval_of(kendall_tau(x, y), kendall_taus(x, y, counts))
    assert held >= 200 * 0.95 - 4 * math.sqrt(200 * 0.95 * 0.05)
    assert held < 200


def test_a_larger_level_makes_a_wider_interval() -> None:
    x, y = sample(40, seed=0)
    taus = kendall_taus(x, y, draw_resamples(40, 200, np.random.default_rng(0)))
    narrow, wide = (interval_of(kendall_tau(x, y), taus, level=level) for level in (0.5, 0.95))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
