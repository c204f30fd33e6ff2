"""Choose the best combination of scores on half of the networks, and test it on the others."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from dtb_builder.errors import ConfigError
from dtb_builder.stages.ranking.population import CONDITIONAL, Population
from dtb_builder.statistics import Interval
from dtb_builder.statistics.rules import Rule, check_enough, choose_rule, fixed, weighted

__all__ = ["ChosenRule", "check_choosable", "choose_rules", "rules_of"]

ALWAYS = ("das", "wot", "num_parameters")
"""The rules with which a chosen rule is compared."""


@dataclass(frozen=True)
class ChosenRule:
    """The rule that was chosen at a moment.

    Attributes:
        moment: the moment's label.
        split: the number of the random split into halves.
        rule: the rule's name.
        num_rules: the number of rules from which it was chosen.
        validated: its cross-validated tau on the chosen half.
        on_other_half: its tau on the other half.
        others: by name, the taus on the other half of the rules with which it is compared.
        gains: by name, its tau minus theirs.
    """

    moment: str
    split: int
    rule: str
    num_rules: int
    validated: float
    on_other_half: Interval
    others: Mapping[str, Interval]
    gains: Mapping[str, Interval]


def check_choosable(num_networks: int, where: str) -> None:
    """Check that there are enough networks for `choose_rules`.

    Args:
        num_networks: the number of networks.
        where: the moment or the file that has them, for the message.

    Raises:
        ConfigError: there are too few.
    """
    try:
        check_enough(num_networks)
    except ValueError as error:
        raise ConfigError(f"no choice at {where}: {error}") from error


def choose_rules(
    population: Population, *, seed: int, num_splits: int, num_resamples: int
) -> Iterator[ChosenRule]:
    """Choose a rule on each of several random splits of the networks.

    Raises:
        ConfigError: there are too few networks to split.
    """
    rules = rules_of(population)
    for split in range(num_splits):
        rng = np.random.default_rng([seed, split])
        try:
            choice = choose_rule(rules, population.accuracies, rng, num_resamples=num_resamples)
        except ValueError as error:
            raise ConfigError(f"no choice at {population.label}: {error}") from error
        others = [name for name in ALWAYS if name in rules]
        yield ChosenRule(
            moment=population.label,
            split=split,
            rule=choice.name,
            num_rules=len(rules),
            validated=choice.validated[choice.name],
            on_other_half=choice.on_other_half[choice.name],
            others={name: choice.on_other_half[name] for name in others},
            gains={name: choice.gains[name] for name in others},
        )


def rules_of(population: Population) -> dict[str, Rule]:
    """Every score that all networks have, and every pair of them with a fitted weight.

    Combinations that have a weight already, or depend on the ranked networks, are in no pair.
    """
    usable = {
        name: values
        for name, values in population.scores.items()
        if np.isfinite(values).all() and values.std() > 0
    }
    rules = {name: fixed(values) for name, values in usable.items()}
    plain = [name for name in usable if not name.startswith("linear") and name not in CONDITIONAL]
    for one, other in itertools.combinations(plain, 2):
        rules[f"{one} + w {other}"] = weighted(usable[one], usable[other], population.accuracies)
    return rules
