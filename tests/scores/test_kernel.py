import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dtb_builder.scores import Agreement, agreement

codes_of_any_shape = arrays(
    np.bool_, st.tuples(st.integers(2, 8), st.integers(1, 60)), elements=st.booleans()
)


@given(codes_of_any_shape)
def test_it_counts_the_units_on_which_two_images_agree(codes: NDArray[np.bool_]) -> None:
    expected = (codes[:, None] == codes[None]).sum(axis=2)
    assert np.array_equal(agreement(codes).counts, expected)


@given(codes_of_any_shape)
def test_the_order_of_units_says_nothing(codes: NDArray[np.bool_]) -> None:
    order = np.random.default_rng(codes.sum()).permutation(codes.shape[1])
    assert np.array_equal(agreement(codes[:, order]).counts, agreement(codes).counts)


@given(codes_of_any_shape)
def test_the_kernel_of_two_layers_is_the_sum_of_theirs(codes: NDArray[np.bool_]) -> None:
    twice = np.concatenate([codes, codes], axis=1)
    assert np.array_equal(agreement(twice).counts, 2 * agreement(codes).counts)


@given(codes_of_any_shape)
def test_the_eigenvalues_have_the_mean_one(codes: NDArray[np.bool_]) -> None:
    kernel = agreement(codes)
    assert kernel._eigenvalues.mean() == pytest.approx(1)
    assert kernel.smallest_eigenvalue == pytest.approx(
        np.linalg.eigvalsh(kernel.counts)[0] / kernel.activation_units, abs=1e-12
    )


@given(codes_of_any_shape)
def test_two_images_of_one_code_are_singular(codes: NDArray[np.bool_]) -> None:
    assert agreement(np.concatenate([codes, codes[:1]])).singular


def test_one_unit_of_a_million_is_enough_to_tell_images_apart() -> None:
    codes = np.zeros((3, 10**6), np.bool_)
    codes[1, 0] = codes[2, 1] = True
    assert not agreement(codes).singular


def test_neither_the_sign_of_the_determinant_nor_cholesky_would_have_shown_it() -> None:
    codes = np.random.default_rng(0).random((16, 1000)) < 0.5
    kernels = [agreement(np.concatenate([codes, codes[[i]]])) for i in range(16)]
    assert all(kernel.singular for kernel in kernels)
    assert any(np.linalg.slogdet(kernel.counts.astype(float)).sign > 0 for kernel in kernels)


def test_what_is_no_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="counts must be int64 of shape"):
        Agreement(np.ones((2, 2)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="counts must be int64 of shape"):
        Agreement(np.ones((2, 3), np.int64))
    with pytest.raises(ValueError, match="needs at least 2 images, got 1"):
        Agreement(np.ones((1, 1), np.int64))
    with pytest.raises(ValueError, match=r"at least 1, got \[2 3\] on the diagonal"):
        Agreement(np.array([[2, 1], [1, 3]]))
    with pytest.raises(ValueError, match=r"got \[0\] on the diagonal"):
        Agreement(np.zeros((2, 2), np.int64))
    for counts in ([[2, 1], [0, 2]], [[2, 3], [3, 2]], [[2, -1], [-1, 2]]):
        with pytest.raises(ValueError, match=r"must be symmetric and in 0\.\.2"):
            Agreement(np.array(counts))
    with pytest.raises(ValueError, match="codes must be bool of shape"):
        agreement(np.ones((2, 2)))  # pyright: ignore[reportArgumentType]
