"""A split is disjoint, fair to every class, and never drifts."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.images import Split, stratified_split
from dtb_builder.images.splits import indices_sha256, stratified_sample

SEEDS = st.integers(0, 2**63)
LABELS = st.lists(st.integers(-3, 6), min_size=2, max_size=60).map(np.array)


@st.composite
def labels_and_num_valid(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    labels = draw(LABELS)
    return labels, draw(st.integers(1, len(labels) - 1))


@given(labels_and_num_valid(), SEEDS)
def test_train_and_valid_are_all_images_once(sizes: tuple[np.ndarray, int], seed: int) -> None:
    labels, num_valid = sizes
    split = stratified_split(labels, num_valid, seed)
    assert len(split.valid) == num_valid
    assert sorted([*split.train, *split.valid]) == list(range(len(labels)))
    assert (np.diff(split.train) > 0).all()
    assert (np.diff(split.valid) > 0).all()


@given(labels_and_num_valid(), SEEDS)
def test_each_class_has_its_share_to_within_one(sizes: tuple[np.ndarray, int], seed: int) -> None:
    labels, num_valid = sizes
    split = stratified_split(labels, num_valid, seed)
    for label in np.unique(labels):
        share = (labels == label).sum() * num_valid / len(labels)
        assert abs((labels[split.valid] == label).sum() - share) < 1


@given(st.data(), labels_and_num_valid(), SEEDS)
def test_fewer_images_to_train_on_are_a_fair_draw_of_those_that_do_not_validate(
    data: st.DataObject, sizes: tuple[np.ndarray, int], seed: int
) -> None:
    labels, num_valid = sizes
    num_train = data.draw(st.integers(1, len(labels) - num_valid))
    whole = stratified_split(labels, num_valid, seed)
    part = stratified_split(labels, num_valid, seed, num_train=num_train)
    assert np.array_equal(part.valid, whole.valid)
    assert len(part.train) == num_train
    assert set(part.train) <= set(whole.train)
    for label in np.unique(labels[whole.train]):
        share = (labels[whole.train] == label).sum() * num_train / len(whole.train)
        assert abs((labels[part.train] == label).sum() - share) < 1


@given(labels_and_num_valid(), SEEDS)
def test_the_same_seed_gives_the_same_split(sizes: tuple[np.ndarray, int], seed: int) -> None:
    one, two = stratified_split(*sizes, seed), stratified_split(*sizes, seed)
    assert np.array_equal(one.train, two.train)
    assert np.array_equal(one.valid, two.valid)


@given(st.data(), LABELS, SEEDS)
def test_a_sample_of_test_images_is_fair_to_every_class(
    data: st.DataObject, labels: np.ndarray, seed: int
) -> None:
    num = data.draw(st.integers(1, len(labels)))
    drawn = stratified_sample(labels, num, seed)
    assert len(drawn) == num
    assert (np.diff(drawn) > 0).all()
    for label in np.unique(labels):
        share = (labels == label).sum() * num / len(labels)
        assert abs((labels[drawn] == label).sum() - share) < 1


def test_another_seed_gives_another_split() -> None:
    labels = np.arange(1000) % 10
    hashes = {indices_sha256(stratified_split(labels, 200, seed).valid) for seed in range(20)}
    assert len(hashes) == 20


def test_a_split_never_drifts() -> None:
    split = stratified_split(np.arange(1000) % 7, 123, seed=5)
    assert split.valid[:5].tolist() == [4, 7, 8, 19, 23]
    digest = "0985e278ba2b42b2656ed3ee16e8d9a1b43744dbd557840b226bdae549289b65"
    assert indices_sha256(split.valid) == digest
    assert np.array_equal(stratified_sample(np.arange(1000) % 7, 123, seed=5), split.valid)


@pytest.mark.parametrize("num_valid", [-1, 0, 10, 11])
def test_neither_part_may_be_empty(num_valid: int) -> None:
    with pytest.raises(ValueError, match=rf"num_valid must be in 1\.\.9, got {num_valid}"):
        stratified_split(np.zeros(10, np.int64), num_valid, 0)


@pytest.mark.parametrize("num_train", [-1, 0, 8])
def test_no_more_may_be_trained_on_than_are_left(num_train: int) -> None:
    with pytest.raises(ValueError, match=rf"num_train must be in 1\.\.7, got {num_train}"):
        stratified_split(np.zeros(10, np.int64), 3, 0, num_train=num_train)


@pytest.mark.parametrize(
    ("train", "valid", "message"),
    [
        ([0, 1], [1, 2], "must be disjoint, got image 1 in both"),
        (np.array([], np.int64), [3], "train must not be empty"),
        ([-1, 1], [3], "train indices must be at least 0, got -1"),
        ([1, 0], [2], "train indices must ascend"),
        ([0.0], [1.0], "train must be int64"),
    ],
)
def test_what_is_no_split_is_refused(train: Any, valid: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split(train=np.array(train), valid=np.array(valid))
