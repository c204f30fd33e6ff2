import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score
from slow_bootstrap import bootstrap

from dtb_builder.statistics import ndcg, top_overlap
from dtb_builder.statistics.best import ndcgs, top_overlaps
from dtb_builder.statistics.resampling import draw_resamples, interval_of

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=7).filter(
    lambda pairs: all(len({pair[i] for pair in pairs}) > 1 for i in (0, 1))
)
SHARES = st.floats(0.05, 1)


@given(PAIRS, SHARES, st.randoms(use_true_random=False))
def test_the_order_of_the_networks_makes_no_difference(
    pairs: list[tuple[int, int]], share: float, random: object
) -> None:
    shuffled = pairs.copy()
    random.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    for statistic in (top_overlap, ndcg):
        one, other = (
            statistic(*zip(*each, strict=True), share=share) for each in (pairs, shuffled)
        )
        assert one == pytest.approx(other, abs=1e-12)


@given(PAIRS, SHARES)
def test_the_overlap_is_the_mean_over_all_ways_to_break_ties(
    pairs: list[tuple[int, int]], share: float
) -> None:
    x, y = zip(*pairs, strict=True)
    size = math.ceil(share * len(pairs) - 1e-9)
    tops = [list(tops_of(values, size)) for values in (x, y)]
    overlaps = [len(a & b) / size for a, b in itertools.product(*tops)]
    assert top_overlap(x, y, share=share) == pytest.approx(np.mean(overlaps))


def tops_of(values: tuple[int, ...], size: int) -> list[set[int]]:
    """Every set of so many networks that none of the others is above."""
    everyone = range(len(values))
    return [
        set(chosen)
        for chosen in itertools.combinations(everyone, size)
        if all(values[i] <= min(values[j] for j in chosen) for i in everyone if i not in chosen)
    ]


@given(PAIRS, SHARES)
def test_ndcg_is_scikit_learns_of_the_accuracies_above_the_lowest(
    pairs: list[tuple[int, int]], share: float
) -> None:
    x, y = (np.array(column, float) for column in zip(*pairs, strict=True))
    size = math.ceil(share * len(pairs) - 1e-9)
    expected = ndcg_score([y - y.min()], [x], k=size)
    assert ndcg(x, y, share=share) == pytest.approx(expected)


@given(PAIRS, SHARES, st.integers(0, 2**32))
def test_ndcg_of_a_resample_is_that_of_the_repeated_networks(
    pairs: list[tuple[int, int]], share: float, seed: int
) -> None:
    x, y = (np.array(column, float) for column in zip(*pairs, strict=True))
    counts = draw_resamples(len(x), 3, np.random.default_rng(seed))
    size = math.ceil(share * len(pairs) - 1e-9)
    for value, count in zip(ndcgs(x, y, counts, share=share), counts.astype(int), strict=True):
        gains = np.repeat(y - y.min(), count)
        if gains.any():
            expected = ndcg_score([gains], [np.repeat(x, count)], k=size)
            assert value == pytest.approx(expected)
        else:
            assert np.isnan(value)


@pytest.mark.parametrize("statistics", [(top_overlap, top_overlaps), (ndcg, ndcgs)])
def test_resamples_agree_with_the_slow_bootstrap(
    statistics: tuple[Callable[..., float], Callable[..., np.ndarray]],
) -> None:
    one, many = statistics
    rng = np.random.default_rng(1)
    y = rng.standard_normal(60)
    x = y + rng.standard_normal(60)
    slow = bootstrap(
        lambda a, b: one(a, b, share=0.3), x, y, np.random.default_rng(2), num_resamples=500
    )
    counts = draw_resamples(60, 2000, np.random.default_rng(3))
    fast = interval_of(one(x, y, share=0.3), many(x, y, counts, share=0.3))
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.06)


@given(PAIRS, st.integers(0, 2**32))
def test_in_every_resample_an_order_without_ties_finds_its_own_best(
    pairs: list[tuple[int, int]], seed: int
) -> None:
    x = np.array(sorted({a for a, _ in pairs}), float)
    counts = draw_resamples(len(x), 5, np.random.default_rng(seed))
    assert top_overlaps(x, x, counts, share=0.4) == pytest.approx(1)
    assert np.nanmin(ndcgs(x, x, counts, share=0.4), initial=1) == pytest.approx(1)


def test_the_top_is_rounded_up() -> None:
    accuracies = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert top_overlap([9, 0, 0, 0, 0, 0, 0, 0, 1, 2], accuracies, share=0.2) == 0.5
    assert top_overlap([9, 0, 0, 0, 0, 0, 0, 0, 1, 2], accuracies, share=0.11) == 0.5
    assert top_overlap([1, 1, 1, 1, 1, 1, 1, 1, 1, 0], accuracies, share=0.1) == 0
    thirty = list(range(30))
    assert top_overlap(thirty, thirty[::-1], share=0.1) == 0
    assert top_overlap([*range(27), 29, 28, 27], thirty, share=0.1) == 1
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], got 0"):
        top_overlap([1, 2], [1, 2], share=0)


def test_a_tie_at_the_border_of_the_top_counts_by_its_share() -> None:
    # One of 19 is in the top of 2 beside the twentieth; of the accuracies, two of the same 19 are.
    found = top_overlap([1] * 19 + [2], [0.5] * 19 + [0.4], share=0.1)
    assert found == pytest.approx(19 * (1 / 19) * (2 / 19) / 2)
