import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dtb_builder.statistics import (
    Interval,
    bootstrap,
    compare,
    kendall_tau,
    partial_tau,
    spearman_rho,
    top_overlap,
)

PAIRS = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=12).filter(
    lambda pairs: all(len({pair[i] for pair in pairs}) > 1 for i in (0, 1))
)


def columns(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


@given(PAIRS)
def test_tau_counts_pairs_and_leaves_tied_ones_out(pairs: list[tuple[int, int]]) -> None:
    x, y = columns(pairs)
    signs = [
        (np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in combinations(range(len(x)), 2)
    ]
    untied = [sum(sign[k] != 0 for sign in signs) for k in (0, 1)]
    expected = sum(a * b for a, b in signs) / math.sqrt(untied[0] * untied[1])
    assert kendall_tau(x, y) == pytest.approx(expected)


@given(PAIRS)
def test_only_the_order_counts(pairs: list[tuple[int, int]]) -> None:
    x, y = columns(pairs)
    stretched = [float(value) ** 3 + 5 for value in x]
    for statistic in (kendall_tau, spearman_rho):
        assert statistic(stretched, y) == pytest.approx(statistic(x, y))
        assert statistic([-value for value in x], y) == pytest.approx(-statistic(x, y))
        assert statistic(y, x) == pytest.approx(statistic(x, y))


@given(PAIRS)
def test_an_order_agrees_with_itself(pairs: list[tuple[int, int]]) -> None:
    x, _ = columns(pairs)
    assert kendall_tau(x, x) == pytest.approx(1)
    assert spearman_rho(x, x) == pytest.approx(1)
    assert top_overlap(x, x, share=0.3) == 1


def test_rho_by_hand() -> None:
    assert spearman_rho([1, 2, 3], [1, 3, 2]) == pytest.approx(1 - 6 * 2 / (3 * 8))


def test_partial_tau_by_hand() -> None:
    scores, accuracies, given = [1, 2, 3, 4], [2, 1, 4, 3], [1, 3, 2, 4]
    # tau is 1/3 with the accuracies, 2/3 with the given, and 0 between those two.
    expected = (1 / 3 - 2 / 3 * 0) / math.sqrt((1 - 4 / 9) * (1 - 0))
    assert partial_tau(scores, accuracies, given) == pytest.approx(expected)


def test_a_score_that_repeats_the_given_number_has_no_partial_tau() -> None:
    with pytest.raises(ValueError, match="given orders networks as the scores or accuracies do"):
        partial_tau([1, 2, 3], [2, 1, 3], [10, 20, 30])


def test_the_top_is_rounded_up_and_ties_go_by_position() -> None:
    accuracies = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert top_overlap([0, 0, 0, 0, 0, 0, 0, 0, 1, 2], accuracies, share=0.1) == 1
    assert top_overlap([9, 0, 0, 0, 0, 0, 0, 0, 1, 2], accuracies, share=0.2) == 0.5
    assert top_overlap([9, 0, 0, 0, 0, 0, 0, 0, 1, 2], accuracies, share=0.11) == 0.5
    assert top_overlap([1, 1, 1, 1, 1, 1, 1, 1, 1, 0], accuracies, share=0.1) == 0
    thirty = list(range(30))
    assert top_overlap(thirty, thirty[::-1], share=0.1) == 0
    assert top_overlap([*range(27), 29, 28, 27], thirty, share=0.1) == 1


def sample(num_networks: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and accuracies whose correlation falls with the noise."""
    rng = np.random.default_rng(seed)
    accuracies = rng.standard_normal(num_networks)
    return accuracies + noise * rng.standard_normal(num_networks), accuracies


def test_the_same_generator_gives_the_same_interval() -> None:
    scores, accuracies = sample(30, 1)
    first, again, other = (
        bootstrap(kendall_tau, scores, accuracies, np.random.default_rng(seed), num_resamples=50)
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first.value == kendall_tau(scores, accuracies)


def test_a_larger_level_makes_a_wider_interval_around_the_value() -> None:
    scores, accuracies = sample(40, 1)
    narrow, wide = (
        bootstrap(
            spearman_rho,
            scores,
            accuracies,
            np.random.default_rng(0),
            num_resamples=200,
            level=level,
        )
        for level in (0.5, 0.95)
    )
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_the_interval_holds_the_populations_tau_about_as_often_as_it_says() -> None:
    truth = kendall_tau(*sample(20_000, 1, seed=99))
    held = sum(
        truth
        in bootstrap(
            kendall_tau, *sample(40, 1, seed), np.random.default_rng(seed), num_resamples=100
        )
        for seed in range(60)
    )
    assert held >= 60 * 0.95 - 4 * math.sqrt(60 * 0.95 * 0.05)


def test_a_score_compared_with_itself_is_no_better() -> None:
    scores, accuracies = sample(20, 1)
    same = compare(kendall_tau, scores, scores, accuracies, np.random.default_rng(0))
    assert same.difference == Interval(0, 0, 0)
    assert same.share_better == 0.5
    assert not same.significant


def test_a_much_better_score_is_significantly_better_and_the_comparison_has_a_sign() -> None:
    accuracies = sample(60, 1)[1]
    good, bad = sample(60, 0.2)[0], np.random.default_rng(5).standard_normal(60)
    for first, second, sign in [(good, bad, 1), (bad, good, -1)]:
        comparison = compare(
            kendall_tau, first, second, accuracies, np.random.default_rng(0), num_resamples=200
        )
        assert comparison.significant
        assert comparison.difference.value * sign > 0.3
        assert comparison.share_better == (1 if sign > 0 else 0)


def test_few_networks_with_many_ties_still_have_an_interval() -> None:
    interval = bootstrap(
        kendall_tau, [0, 0, 1], [0, 1, 1], np.random.default_rng(0), num_resamples=50
    )
    assert -1 <= interval.low <= interval.high <= 1


@given(PAIRS)
def test_a_bootstrap_does_not_depend_on_units(pairs: list[tuple[int, int]]) -> None:
    x, y = columns(pairs)
    assume(len(pairs) > 4)
    first, other = (
        bootstrap(kendall_tau, scores, y, np.random.default_rng(0), num_resamples=10)
        for scores in (x, [value * 1000 for value in x])
    )
    assert first == other


def test_what_cannot_be_ranked_is_refused() -> None:
    masked = np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False])
    with pytest.raises(ValueError, match="wanted numbers of all networks, got masked ones"):
        kendall_tau(masked, [1, 2, 3])
    with pytest.raises(ValueError, match="scores must be finite, got nan"):
        kendall_tau([1, float("nan"), 3], [1, 2, 3])
    with pytest.raises(ValueError, match=r"accuracies must differ to be ranked, got 1\.0 for all"):
        spearman_rho([1, 2, 3], [1, 1, 1])
    with pytest.raises(ValueError, match=r"at least 2 networks, got \(3,\) and \(2,\)"):
        kendall_tau([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], got 0"):
        top_overlap([1, 2], [1, 2], share=0)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="num_resamples must be at least 1, got 0"):
        bootstrap(kendall_tau, [1, 2], [1, 2], rng, num_resamples=0)
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 95"):
        compare(kendall_tau, [1, 2], [1, 2], [1, 2], rng, level=95)
