import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.statistics import kendall_tau, partial_tau, spearman_rho

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


def test_rho_by_hand() -> None:
    assert spearman_rho([1, 2, 3], [1, 3, 2]) == pytest.approx(1 - 6 * 2 / (3 * 8))


def test_partial_tau_by_hand() -> None:
    scores, accuracies, given = [1, 2, 3, 4], [2, 1, 4, 3], [1, 3, 2, 4]
    # tau is 1/3 with the accuracies, 2/3 with the given, and 0 between those two.
    expected = (1 / 3 - 2 / 3 * 0) / math.sqrt((1 - 4 / 9) * (1 - 0))
    assert partial_tau(scores, accuracies, given) == pytest.approx(expected)


def test_a_score_that_repeats_the_given_number_has_no_partial_tau() -> None:
    with pytest.raises(ValueError, match="given has the same order as scores or accuracies"):
        partial_tau([1, 2, 3], [2, 1, 3], [10, 20, 30])


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
