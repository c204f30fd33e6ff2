import numpy as np
import pytest

from dtb_builder.statistics import kendall_tau
from dtb_builder.statistics.rules import choose_rule, fixed, weighted


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_best_rule_is_chosen_on_one_half_and_reported_on_the_other() -> None:
    accuracies = rng().random(40)
    good = accuracies + 0.3 * rng(1).random(40)
    rules = {"noise": fixed(rng(2).random(40)), "good": fixed(good)}
    choice = choose_rule(rules, accuracies, rng(3))
    assert choice.name == "good"
    assert choice.on_other_half["good"].value == kendall_tau(
        good[choice.other_half], accuracies[choice.other_half]
    )
    assert not set(choice.chosen_half) & set(choice.other_half)
    assert len(choice.chosen_half) == len(choice.other_half) == 20
    assert choice.gains["good"].value == choice.gains["good"].high == 0
    assert choice.gains["noise"].low > 0


def test_the_other_halfs_accuracies_have_no_part_in_the_choice() -> None:
    accuracies, one, other = rng(), rng().random(30), rng(1).random(30)
    accuracies = accuracies.random(30) + one

    def chosen(truth: np.ndarray) -> tuple[str, dict[str, float]]:
        rules = {"one": fixed(one), "both": weighted(one, other, truth)}
        choice = choose_rule(rules, truth, rng(3))
        return choice.name, dict(choice.validated)

    first = choose_rule({"one": fixed(one)}, accuracies, rng(3))
    changed = accuracies.copy()
    changed[first.other_half] = rng(9).random(len(first.other_half))
    assert chosen(changed) == chosen(accuracies)


def test_a_weight_is_fitted_to_the_networks_it_may_learn_from_alone() -> None:
    one, other = rng(0).random(60), rng(1).random(60)
    accuracies = one + 3 * other
    accuracies[30:] = one[30:] + 0.1 * other[30:]
    rule = weighted(one, other, accuracies)
    first, last = rule(np.arange(30)), rule(np.arange(30, 60))
    assert kendall_tau(first[:30], accuracies[:30]) > kendall_tau(last[:30], accuracies[:30])
    assert kendall_tau(last[30:], accuracies[30:]) > kendall_tau(first[30:], accuracies[30:])


def test_the_best_of_many_rules_of_noise_is_worth_nothing_on_the_other_half() -> None:
    validated, other = [], []
    for seed in range(12):
        draws = rng(seed)
        accuracies = draws.random(40)
        rules = {str(i): fixed(draws.random(40)) for i in range(25)}
        choice = choose_rule(rules, accuracies, draws, num_resamples=10)
        validated.append(choice.validated[choice.name])
        other.append(choice.on_other_half[choice.name].value)
    assert np.mean(validated) > 0.2
    assert abs(np.mean(other)) < 0.12


def test_a_fold_whose_scores_are_all_the_same_counts_nothing() -> None:
    accuracies = rng().random(24)
    steps = np.zeros(24)
    steps[0] = 1
    choice = choose_rule({"steps": fixed(steps), "same": fixed(accuracies)}, accuracies, rng(1))
    assert choice.name == "same"
    assert choice.validated["same"] == 1


def test_a_rule_that_is_the_same_on_the_other_half_is_worth_nothing_there() -> None:
    accuracies = rng().random(20)
    one = choose_rule({"one": fixed(accuracies)}, accuracies, rng(3)).chosen_half[0]
    flat = np.zeros(20)
    flat[one] = 1
    choice = choose_rule({"flat": fixed(flat), "good": fixed(accuracies)}, accuracies, rng(3))
    assert choice.name == "good"
    found = choice.on_other_half["flat"]
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_nothing_to_choose_from_or_too_few_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="there must be at least one rule to choose from"):
        choose_rule({}, [1, 2], rng())
    with pytest.raises(ValueError, match="need at least 18 networks, got 10"):
        choose_rule({"a": fixed(range(10))}, range(10), rng())
    with pytest.raises(ValueError, match="scores must differ to be weighted, got 1"):
        weighted([1.0, 1.0], [1.0, 2.0], [1.0, 2.0])
