import numpy as np
import pytest

from dtb_builder.metrics import choose, kendall_tau


def test_the_halves_are_disjoint_and_together_all() -> None:
    accuracies = np.random.default_rng(0).random(21)
    choice = choose({"a": accuracies}, accuracies, kendall_tau, np.random.default_rng(1))
    assert len(choice.chosen_half) == 10
    together = np.concatenate([choice.chosen_half, choice.other_half])
    assert np.array_equal(np.sort(together), np.arange(21))


def test_the_best_is_chosen_on_one_half_and_reported_on_the_other() -> None:
    rng = np.random.default_rng(0)
    accuracies = rng.random(40)
    scores = {"noise": rng.random(40), "good": accuracies + 0.3 * rng.random(40)}
    choice = choose(scores, accuracies, kendall_tau, np.random.default_rng(3))
    assert choice.name == "good"
    for half, value in [
        (choice.chosen_half, choice.on_chosen_half),
        (choice.other_half, choice.on_other_half.value),
    ]:
        assert value == kendall_tau(scores["good"][half], accuracies[half])


def test_the_other_halfs_accuracies_have_no_part_in_the_choice() -> None:
    rng = np.random.default_rng(0)
    accuracies = rng.random(30)
    scores = {str(i): rng.random(30) for i in range(20)}
    first = choose(scores, accuracies, kendall_tau, np.random.default_rng(3))
    changed = accuracies.copy()
    changed[first.other_half] = rng.random(len(first.other_half))
    second = choose(scores, changed, kendall_tau, np.random.default_rng(3))
    assert (second.name, second.on_chosen_half) == (first.name, first.on_chosen_half)
    assert second.on_other_half != first.on_other_half


def test_the_best_of_many_scores_of_noise_is_worth_nothing_on_the_other_half() -> None:
    rng = np.random.default_rng(0)
    chosen, other = [], []
    for seed in range(20):
        scores = {str(i): rng.random(40) for i in range(30)}
        choice = choose(
            scores, rng.random(40), kendall_tau, np.random.default_rng(seed), num_resamples=1
        )
        chosen.append(choice.on_chosen_half)
        other.append(choice.on_other_half.value)
    assert np.mean(chosen) > 0.25
    assert abs(np.mean(other)) < 0.12


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(ValueError, match="there must be at least one score to choose from"):
        choose({}, [1, 2], kendall_tau, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"a must have shape \(3,\), got \(2,\)"):
        choose({"a": [1, 2]}, [1, 2, 3], kendall_tau, np.random.default_rng(0))
