"""The settings of a search, and the rule that follows from them."""

import math
import re
from dataclasses import dataclass

from dtb_builder.errors import ConfigError
from dtb_builder.images.settings import ImagesConfig
from dtb_builder.meant import did_you_mean
from dtb_builder.scores.names import SCORES
from dtb_builder.stages.ranking.population import EARLY_FIGURES
from dtb_builder.stages.ranking.rank import Ranked
from dtb_builder.stages.settings.network import NetworkConfig, check_auxiliary
from dtb_builder.training.compute import ComputeConfig
from dtb_builder.training.recipe import Recipe

__all__ = ["COMBINED", "SearchConfig", "SearchRule", "affordable_rule", "named_rule"]

COMBINED = ("das", "z_sum", "das3")
RULES = (*SCORES, *COMBINED, *EARLY_FIGURES)


@dataclass(frozen=True, kw_only=True)
class SearchRule:
    """The score by which candidates are compared, and when.

    Attributes:
        score: one of `SCORES` or of `EARLY_FIGURES`, "das3", or "das" or "z_sum", which are the
            same in a search.
        epoch: the epoch after which candidates are compared; None within the first epoch.
        step: the step of the first epoch, from 1; None at the end of an epoch.
    """

    score: str
    epoch: int | None
    step: int | None

    def num_steps(self, steps_per_epoch: int) -> int:
        """The number of training steps of a candidate."""
        return self.step if self.epoch is None else self.epoch * steps_per_epoch  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The settings that decide a search; conf/search.yaml explains each."""

    network: NetworkConfig
    recipe: Recipe
    images: ImagesConfig
    compute: ComputeConfig
    ranking: str | None
    rule: str
    at: str
    num_images: int
    probe_seed: int
    seed: int
    num_candidates: int
    budget_seconds: float | None
    budget_steps: int | None
    num_random: int
    num_parents: int
    num_children: int

    def __post_init__(self) -> None:
        for name in ("num_candidates", "num_random", "num_parents", "num_children"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "probe_seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        check_auxiliary(self.recipe, self.network)
        if self.num_images < 2:
            raise ValueError(f"num_images must be at least 2, got {self.num_images}")
        if self.num_random < 2:
            raise ValueError(f"num_random must be at least 2, got {self.num_random}")
        for name in ("budget_seconds", "budget_steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0 or null, got {value}")


def named_rule(config: SearchConfig) -> SearchRule:
    """The rule that a config names.

    Raises:
        ConfigError: there is no such rule, or not at that epoch or step.
    """
    match = re.fullmatch(r"(epoch|step) (\d+)", config.at)
    if match is None or match[0] == "step 0":
        raise ConfigError(f"at must be such as 'epoch 3' or 'step 10', got {config.at!r}")
    if config.rule not in RULES:
        hint = did_you_mean(config.rule, RULES)
        raise ConfigError(f"rule must be one of {', '.join(RULES)}, got {config.rule!r}{hint}")
    number = int(match[2])
    epoch, step = (number, None) if match[1] == "epoch" else (None, number)
    if config.rule in EARLY_FIGURES and not epoch:
        raise ConfigError(f"{config.rule} needs at least an epoch of training, got {config.at!r}")
    if epoch is not None and epoch > config.recipe.num_epochs:
        raise ConfigError(f"at must be within the recipe's {config.recipe.num_epochs} epochs")
    return SearchRule(score=config.rule, epoch=epoch, step=step)


def affordable_rule(
    ranked: tuple[Ranked, ...], config: SearchConfig, epoch_steps: int
) -> SearchRule:
    """The rule with the largest tau among those that the budget allows for all candidates.

    Rules after the recipe's last epoch, or at a step after its first, are left out.

    Args:
        ranked: the rules.
        config: the budget and the recipe.
        epoch_steps: the number of training steps of an epoch.

    Raises:
        ConfigError: the budget allows no rule.
    """
    last = {"epoch": config.recipe.num_epochs, "step": epoch_steps}

    def affordable(row: Ranked) -> bool:
        seconds = math.inf if row.seconds is None else row.seconds * config.num_candidates
        steps = (row.step or 0) * config.num_candidates
        when, _, size = row.moment.partition(", n = ")
        kind, number = when.split()
        if size not in ("", str(config.num_images)) or int(number) > last[kind]:
            return False
        if row.score not in RULES or (row.score in EARLY_FIGURES and when == "epoch 0"):
            return False
        return (config.budget_seconds is None or seconds <= config.budget_seconds) and (
            config.budget_steps is None or steps <= config.budget_steps
        )

    rows = [row for row in ranked if affordable(row)]
    if not rows:
        raise ConfigError(
            f"{config.ranking}: no rule is affordable for {config.num_candidates} candidates; "
            "set a larger budget, fewer candidates or the ranked recipe"
        )
    best = max(rows, key=lambda row: row.tau.value)
    kind, number = best.moment.partition(", n = ")[0].split()
    return SearchRule(
        score=best.score,
        epoch=int(number) if kind == "epoch" else None,
        step=int(number) if kind == "step" else None,
    )
