"""What a person can set, as checked values: what decides the data, apart from how it is made."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import dacite

from dtb_builder.errors import ConfigError
from dtb_builder.stages.settings import flat, plain, settings_differences
from dtb_builder.stages.shards import ShardRange
from dtb_builder.training.recipe import Recipe

__all__ = [
    "ClusterConfig",
    "ComputeConfig",
    "Config",
    "ImagesConfig",
    "LaunchConfig",
    "NetworkConfig",
    "SpaceConfig",
    "StatesConfig",
    "check_auxiliary",
    "deciding_settings",
    "differences",
    "parse",
]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """Which genotypes are trained.

    Attributes:
        kind: drawn uniformly, read from a file, named, or a parent and mutations of it.
        seed: of the draws.
        num_genotypes: for uniform and mutations: how many to draw, the parent counted in.
        file: for file: a text file, one genotype to a line.
        parent: for mutations: a genotype's name or text.
        names: for named: those wanted; empty means all.
    """

    kind: Literal["uniform", "file", "named", "mutations"]
    seed: int
    num_genotypes: int | None
    file: str | None
    parent: str | None
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"space.seed must be at least 0, got {self.seed}")
        drawn = self.kind in ("uniform", "mutations")
        if drawn and (self.num_genotypes is None or self.num_genotypes < 1):
            raise ValueError(f"space.num_genotypes must be at least 1, got {self.num_genotypes}")
        if not drawn and self.num_genotypes is not None:
            raise ValueError(f"space.num_genotypes means nothing for space.kind={self.kind}")
        for name, value, kind in (
            ("file", self.file, "file"),
            ("parent", self.parent, "mutations"),
        ):
            if self.kind == kind and value is None:
                raise ValueError(f"space.kind={kind} needs space.{name}")
            if self.kind != kind and value is not None:
                raise ValueError(f"space.{name} means nothing for space.kind={self.kind}")
        if self.kind != "named" and self.names:
            raise ValueError(f"space.names means nothing for space.kind={self.kind}")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """How every genotype is grown into a network; checked further once the images are known."""

    channels: int
    layers: int
    auxiliary: bool


def check_auxiliary(recipe: Recipe, network: NetworkConfig) -> None:
    """See that an auxiliary loss has its head.

    Raises:
        ValueError: it has not.
    """
    if recipe.auxiliary_weight > 0 and not network.auxiliary:
        raise ValueError(
            "recipe.auxiliary_weight needs network.auxiliary, which network=darts has; it is 0 "
            "without"
        )


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Which images, and how their training part is divided.

    Attributes:
        name: one of `dtb_builder.training.loaders.IMAGE_SETS`.
        root: a local copy, or None.
        num_valid: images taken from the training part for validation.
        split_seed: of that division.
        num_train: images trained on, of those that are left; None is all of them.
    """

    name: str
    root: str | None
    num_valid: int
    split_seed: int
    num_train: int | None = None  # files made before it was a setting trained on all


@dataclass(frozen=True, kw_only=True)
class StatesConfig:
    """Which training states are kept.

    Attributes:
        epochs: those after which a state is kept, -1 being the last; or "all"; or "logarithmic":
            0, 1, 2, 4, 8 and so on, and the last.
        steps: those of the first epoch after which a state is kept, too; counted from 1.
        auxiliary_head: whether the auxiliary head's tensors are kept.
        dtype: what the floats are rounded to; as float32 they are stored in either case.
        key_every: of so many kept epochs one, the first, has its state stored as it is, and the
            others as differences to it; 1 stores every state as it is.
    """

    epochs: Literal["all", "logarithmic"] | tuple[int, ...]
    steps: tuple[int, ...] = ()
    auxiliary_head: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    key_every: int = 1

    def __post_init__(self) -> None:
        if self.key_every < 1:
            raise ValueError(f"states.key_every must be at least 1, got {self.key_every}")
        if list(self.steps) != sorted(set(self.steps)) or min(self.steps, default=1) < 1:
            raise ValueError(f"states.steps must increase from at least 1, got {list(self.steps)}")

    def keeps(self, epoch: int, num_epochs: int) -> bool:
        """Whether the state after an epoch is kept, of a run of so many epochs."""
        if self.epochs == "all":
            return True
        if self.epochs == "logarithmic":
            return epoch.bit_count() <= 1 or epoch == num_epochs
        return epoch in {num_epochs if kept == -1 else kept for kept in self.epochs}

    def differences(self, num_epochs: int) -> dict[int, int]:
        """The epochs whose states are stored as differences, in order, each with its key's epoch.

        >>> StatesConfig(epochs="all", key_every=3).differences(5)
        {1: 0, 2: 0, 4: 3, 5: 3}
        """
        kept = [epoch for epoch in range(num_epochs + 1) if self.keeps(epoch, num_epochs)]
        keys = (kept[i - i % self.key_every] for i in range(len(kept)))
        return {epoch: key for epoch, key in zip(kept, keys, strict=True) if epoch != key}


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """What a run is computed on, as far as it decides the bits.

    Attributes:
        device: "cpu" or "cuda".
        threads: of torch, per run.
        deterministic: whether only deterministic operations are used.
        kernels: whether the cells run in compiled passes; "auto" is settled where it is planned.
    """

    device: Literal["cpu", "cuda"]
    threads: int
    deterministic: bool
    kernels: Literal["auto", "on", "off"] = "off"  # files made before it was a setting had none

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"compute.threads must be at least 1, got {self.threads}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the data; fixed once a run folder is planned."""

    space: SpaceConfig
    network: NetworkConfig
    recipe: Recipe
    images: ImagesConfig
    states: StatesConfig
    compute: ComputeConfig
    seeds: tuple[int, ...]
    shard_size: int

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be different, none negative, got {list(self.seeds)}")
        if self.shard_size < 1:
            raise ValueError(f"shard_size must be at least 1, got {self.shard_size}")
        check_auxiliary(self.recipe, self.network)
        epochs = self.states.epochs
        outside = (
            [e for e in epochs if not -1 <= e <= self.recipe.num_epochs]
            if isinstance(epochs, tuple)
            else []
        )
        if outside:
            raise ValueError(
                f"states.epochs must be in 0..{self.recipe.num_epochs}, or -1, got {outside}"
            )


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Where and how densely the runs are placed; it never changes their bits.

    Attributes:
        engine: "ray", or "serial" for one run after the other in this process.
        address: of a Ray cluster, "auto" for the one here, None for a new local one.
        num_cpus: cores of a new local cluster, None for all.
        gpus_per_run: GPUs of a run, a fraction shares one; None is 1 on cuda, 0 on the CPU.
        max_in_flight: tasks handed to Ray at once, None for twice what can run.
        runs_per_task: runs that one process trains after another; more save the seconds that each
            process takes to start, to load the images and to set up its GPU.
        shards: as FIRST-LAST, those to work on, for one job of several; None for all.
        max_attempts: how often a run is tried before it is given up.
        time_limit: seconds that one try at a run may take, None for any.
        tensorboard: whether finished runs' curves are written for TensorBoard, too.
    """

    engine: Literal["ray", "serial"]
    address: str | None
    num_cpus: int | None
    gpus_per_run: float | None
    max_in_flight: int | None
    max_attempts: int
    time_limit: float | None
    runs_per_task: int = 1
    shards: str | int | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.num_cpus is not None and self.num_cpus < 1:
            raise ValueError(f"cluster.num_cpus must be at least 1, got {self.num_cpus}")
        gpus = self.gpus_per_run
        if gpus is not None and not 0 < gpus <= 1:
            raise ValueError(
                "cluster.gpus_per_run must be above 0 and at most 1, for a run trains on one GPU, "
                f"got {gpus}"
            )
        if self.max_in_flight is not None and self.max_in_flight < 1:
            raise ValueError(f"cluster.max_in_flight must be at least 1, got {self.max_in_flight}")
        if self.runs_per_task < 1:
            raise ValueError(f"cluster.runs_per_task must be at least 1, got {self.runs_per_task}")
        try:
            self.shard_range  # noqa: B018 - raises where there is none
        except ValueError as error:
            raise ValueError(f"cluster.shards: {error}") from error
        if self.max_attempts < 1:
            raise ValueError(f"cluster.max_attempts must be at least 1, got {self.max_attempts}")
        if self.time_limit is not None and self.time_limit <= 0:
            raise ValueError(f"cluster.time_limit must be above 0 seconds, got {self.time_limit}")
        if self.address is not None and self.address.startswith("ray://"):
            raise ValueError(
                "cluster.address must not be a Ray Client address (ray://): a driver behind it "
                "loses its tasks when the connection breaks; use address=auto on the cluster, or "
                "ray job submit"
            )

    @property
    def shard_range(self) -> ShardRange | None:
        """The shards to work on, or None for all."""
        return None if self.shards is None else ShardRange.parse(str(self.shards))


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """What may change from one launch to the next.

    Attributes:
        cluster: where the runs are placed.
        retry: "failed" tries again the runs that were given up.
        allow_missing: merge although shards are missing or runs failed.
        volume_size: bytes per states file of the merged benchmark, None for one single file.
    """

    cluster: ClusterConfig
    retry: Literal["failed"] | None
    allow_missing: bool
    volume_size: int | None

    def __post_init__(self) -> None:
        if self.volume_size is not None and self.volume_size < 1:
            raise ValueError(f"volume_size must be at least 1 byte, got {self.volume_size}")


LAUNCH_KEYS = ("cluster", "retry", "allow_missing", "volume_size")
"""The top-level keys of a composed configuration that make up a `LaunchConfig`."""


def parse(kind: type[T], settings: Mapping[str, Any]) -> T:
    """The value of a kind that plain settings describe.

    Raises:
        ConfigError: a setting is missing, unknown, of the wrong type or out of range.
    """
    hooks = {float: _float, int: _whole}
    if not isinstance(settings, Mapping):
        raise ConfigError(f"the configuration must be keys with values, got {settings!r}")
    try:
        return dacite.from_dict(
            kind, _tuples(settings), dacite.Config(strict=True, type_hooks=hooks)
        )
    except dacite.WrongTypeError as error:
        given = flat(settings).get(error.field_path or "", error.value)
        raise ConfigError(
            f"{error.field_path} must be {_described(error.field_type)}, got {given!r}"
        ) from error
    except (dacite.DaciteError, ValueError, TypeError) as error:
        raise ConfigError(f"the configuration is not valid: {error}") from error


def deciding_settings(config: Config) -> dict[str, Any]:
    """What decides the data, as plain values: the config without the paths of this machine."""
    settings = plain(config)
    del settings["images"]["root"], settings["space"]["file"]
    return settings


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """In what two `deciding_settings` differ, as ``key: stored, given`` texts.

    A setting that the stored ones lack was not known yet, and had its default's meaning.
    """
    known = flat(_defaults(Config)) | flat(stored)
    return settings_differences(known, given, then="when it was planned")


def _defaults(kind: type) -> dict[str, Any]:
    """What is meant where a setting of a dataclass, or of one inside it, is not given."""
    nested = {
        name: _defaults(hint)
        for name, hint in get_type_hints(kind).items()
        if isinstance(hint, type) and is_dataclass(hint)
    }
    own = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    return nested | json.loads(json.dumps(own))


def _described(kind: Any) -> str:
    """A type as a person would say it.

    >>> _described(Literal["all"] | tuple[int, ...])
    "'all' or a list of int"
    """
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, choices))
    if get_origin(kind) is tuple:
        return f"a list of {_described(choices[0])}"
    if choices:
        return " or ".join(map(_described, choices))
    return "null" if kind is type(None) else kind.__name__


def _float(value: Any) -> Any:
    """A whole number where a float is wanted is that float; the type check sees to the rest."""
    return float(value) if type(value) in (int, float) else _whole(value)


def _whole(value: Any) -> Any:
    """True and false are no numbers here, though Python takes them for 1 and 0; 1e9 is one."""
    if isinstance(value, bool):
        return str(value).lower()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tuples(value: Any) -> Any:
    """The same settings with every list as a tuple."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
