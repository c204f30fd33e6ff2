"""Everything that decides the data, as one checked value."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from dtb_builder.errors import ConfigError
from dtb_builder.images.settings import ImagesConfig
from dtb_builder.record import Moment
from dtb_builder.stages.settings.branch import BranchConfig
from dtb_builder.stages.settings.network import NetworkConfig, check_auxiliary
from dtb_builder.stages.settings.plain import flat, plain
from dtb_builder.stages.settings.space import SpaceConfig
from dtb_builder.stages.settings.states import StatesConfig
from dtb_builder.training.compute import ComputeConfig
from dtb_builder.training.recipe import Recipe

__all__ = ["Config", "deciding_settings", "stored_settings"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the data; it cannot change once a run folder is planned."""

    space: SpaceConfig
    network: NetworkConfig
    recipe: Recipe
    images: ImagesConfig
    states: StatesConfig
    compute: ComputeConfig
    seeds: tuple[int, ...]
    shard_size: int
    order_seeds: tuple[int, ...] | None = None
    branch: BranchConfig | None = None

    def __post_init__(self) -> None:
        for name in ("seeds", "order_seeds"):
            seeds = getattr(self, name)
            if seeds is not None and (not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0):
                raise ValueError(f"{name} must differ and be at least 0, got {list(seeds)}")
        if self.shard_size < 1:
            raise ValueError(f"shard_size must be at least 1, got {self.shard_size}")
        check_auxiliary(self.recipe, self.network)
        self._check_branch()
        momentum = self.states.momentum
        if momentum != "none" and self.network.auxiliary and not self.states.auxiliary_head:
            raise ValueError(
                "states.momentum needs states.auxiliary_head=true if the network has an auxiliary "
                "head, since a training continues with it"
            )
        for name, epochs, first in (("epochs", self.states.epochs, 0), ("momentum", momentum, 1)):
            last = self.recipe.num_epochs
            listed = epochs if isinstance(epochs, tuple) else ()
            if outside := [e for e in listed if e != -1 and not first <= e <= last]:
                raise ValueError(f"states.{name} must be in {first}..{last}, or -1, got {outside}")

    @property
    def first_epoch(self) -> int:
        """The epoch after which training starts: 0, or the parents' epoch for a branch."""
        return 0 if self.branch is None else self.branch.epoch

    @property
    def momentum_epochs(self) -> set[int]:
        """The trained epochs after which the momentum is stored."""
        return self.states.momentum_epochs(self.recipe.num_epochs, first=self.first_epoch)

    def _check_branch(self) -> None:
        if (self.branch is None) != (self.space.kind != "branch"):
            raise ValueError("space.kind=branch is for run folders planned by dtb branch only")
        if self.branch is None:
            return
        if self.recipe.num_epochs <= self.branch.epoch:
            raise ValueError(
                f"recipe.num_epochs must be larger than {self.branch.epoch}, the epoch from which "
                f"the branch continues, got {self.recipe.num_epochs}"
            )
        is_whole = self.states.auxiliary_head or not self.network.auxiliary
        if self.states.dtype != "float32" or not is_whole:
            raise ValueError(
                "a branch stores the state from which it continues without rounding: it needs "
                "states.dtype=float32 and states.auxiliary_head=true"
            )

    def moments(self, num_images: int) -> tuple[Moment, ...]:
        """The moments at which every run's state is stored.

        Args:
            num_images: the number of training images.

        Raises:
            ConfigError: a step is beyond the training.
        """
        num_steps = self.recipe.num_steps(num_images)
        try:
            first = None if self.branch is None else self.branch.epoch
            return self.states.moments(self.recipe.num_epochs, num_steps, first=first)
        except ValueError as error:
            raise ConfigError(f"{error}; {num_images} images make {num_steps} steps") from error


_ADDED = (("images", "num_test"), ("images", "pool"), ("recipe", "evaluate_epochs"))
"""Settings that came later: a provenance in which they are null does without them, as before."""


def deciding_settings(config: Config) -> dict[str, Any]:
    """The config as JSON values, without paths, since these do not decide the data."""
    settings = plain(config)
    del settings["images"]["root"], settings["space"]["file"]
    for group, name in _ADDED:
        if settings[group][name] is None:
            del settings[group][name]
    if config.branch is None:
        del settings["branch"]
    return settings


def stored_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The `deciding_settings` of a file of any version, flat and complete.

    A setting that the file's version did not have gets its default value.
    """
    return flat(_defaults(Config)) | flat(stored)


def _defaults(kind: type) -> dict[str, Any]:
    """The defaults of a dataclass and of the dataclasses in it."""
    nested = {
        name: _defaults(hint)
        for name, hint in get_type_hints(kind).items()
        if isinstance(hint, type) and is_dataclass(hint)
    }
    own = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    return nested | json.loads(json.dumps(own))
