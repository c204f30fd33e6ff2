"""Networks of a table that others published, newly initialised, to be scored and ranked."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dtb_builder.errors import ConfigError, TableError
from dtb_builder.images.settings import ImagesConfig, load_split_images
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.scores import activation_units
from dtb_builder.stages.scoring.sources import Moment, ScoredState, Unit
from dtb_builder.tables import TrainedCell, TrainedGenotype, read_nasbench101, read_nds
from dtb_builder.tables.cell101 import Cell101
from dtb_builder.tables.network101 import Network101
from dtb_builder.tables.units101 import activation_units101

__all__ = [
    "TABLES",
    "TableConfig",
    "TableNetwork",
    "TableSource",
    "make_source",
    "read_table",
]

TABLES = ("nasbench101", "nds")
_INITIALISED = Moment(epoch=0)


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Which networks of a table are scored, and as what.

    Attributes:
        num_networks: drawn from the table, or all where it has no more.
        network_seed: of that draw, and of the networks' weights.
        channels: of the first stack of a network of NAS-Bench-101; published were 128.
        images: that the probe is drawn from; published was CIFAR-10.
    """

    num_networks: int
    network_seed: int
    channels: int
    images: ImagesConfig

    def __post_init__(self) -> None:
        for name, least in (("num_networks", 2), ("network_seed", 0), ("channels", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class TableNetwork:
    """A network of a table.

    Attributes:
        name: what the table calls it.
        architecture: what it is: a cell of NAS-Bench-101, or a genotype with its size.
        accuracy: on the test images at the end of its training, in [0, 1]; the mean of all
            trainings with the most epochs.
    """

    name: str
    architecture: Cell101 | TrainedGenotype
    accuracy: float


@dataclass(frozen=True)
class TableSource:
    """Some networks of a table, as newly initialised; a source of the stage `score`.

    Attributes:
        kind: which table.
        digest: SHA-256 of its file.
        networks: those that were drawn.
        config: how.
        image_size: height and width of the probe images.
        num_classes: of them.
    """

    kind: str
    digest: str
    networks: tuple[TableNetwork, ...]
    config: TableConfig
    image_size: int
    num_classes: int

    def about(self) -> dict[str, Any]:
        """The file, and how networks were drawn from it."""
        return {
            "kind": self.kind,
            "file": self.digest,
            "num_networks": self.config.num_networks,
            "network_seed": self.config.network_seed,
            "channels": self.config.channels,
        }

    def units(self) -> Iterator[Unit]:
        """Every network, at its initialisation."""
        for number, network in enumerate(self.networks):
            yield Unit(
                number, self.config.network_seed, network.name, network.name, (_INITIALISED,)
            )

    def states(self, number: int) -> Iterator[ScoredState]:
        """The network's one state."""
        architecture = self.networks[number].architecture
        if isinstance(architecture, TrainedGenotype):
            units = activation_units(architecture.genotype, self._spec(architecture))
        else:
            units = activation_units101(
                architecture, channels=self.config.channels, image_size=self.image_size
            )

        def load() -> tuple[nn.Module, int]:
            with torch.random.fork_rng([]):
                torch.default_generator.manual_seed(self.config.network_seed + number)
                return self._network(architecture), 0

        yield ScoredState(_INITIALISED, load, units)

    def images(self, root: str | None) -> ImagesConfig:
        """The images that the probe is drawn from."""
        return replace(self.config.images, root=root or self.config.images.root)

    def adapted(self, images: Tensor) -> Tensor:
        """Probe images of one channel repeated for the three that these networks read."""
        three = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        return three.contiguous(memory_format=torch.channels_last)

    def features(self, number: int) -> str:
        """The last maps before they are pooled."""
        architecture = self.networks[number].architecture
        if isinstance(architecture, TrainedGenotype):
            return f"cells.{architecture.layers - 1}"
        return "features"

    @property
    def spec(self) -> None:
        """Networks of a table have no common spec, and no reference sample."""
        return None

    def _network(self, architecture: Cell101 | TrainedGenotype) -> nn.Module:
        if isinstance(architecture, TrainedGenotype):
            return self._spec(architecture).build(architecture.genotype)
        network = Network101(
            architecture, channels=self.config.channels, num_classes=self.num_classes
        )
        return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _spec(self, trained: TrainedGenotype) -> NetworkSpec:
        return trained.spec(num_classes=self.num_classes, image_size=self.image_size)


def read_table(
    kind: str, path: Path, config: TableConfig
) -> tuple[str, tuple[TableNetwork, ...], int]:
    """Draw networks from a table's file.

    Returns:
        SHA-256 of the file, the networks, and how many of the file are outside the space.

    Raises:
        FileNotFoundError: there is no such file.
        TableError: the file is damaged, or none of this table.
        ConfigError: there is no such table.
    """
    if kind not in TABLES:
        raise ConfigError(f"--benchmark must be one of {', '.join(TABLES)}, got {kind!r}")
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        file.seek(0)
        if kind == "nasbench101":
            networks, num_outside = _cells(read_nasbench101(file), config), 0
        else:
            try:
                trained, outside = read_nds(file.read().decode())
            except UnicodeDecodeError as error:
                raise TableError(f"{path} is not UTF-8 text: {error}") from error
            networks, num_outside = _genotypes(trained, config), len(outside)
    if len(networks) < 2:
        raise TableError(f"{path} has {len(networks)} networks that can be ranked, wanted 2")
    return digest, networks, num_outside


def make_source(
    kind: str,
    digest: str,
    networks: tuple[TableNetwork, ...],
    config: TableConfig,
    images_root: str | None,
) -> TableSource:
    """A source of networks that `read_table` has drawn, for the images that are here.

    Raises:
        ImagesError: the images are not here.
    """
    root = images_root or config.images.root
    images, _ = load_split_images(replace(config.images, root=root))
    return TableSource(
        kind=kind,
        digest=digest,
        networks=networks,
        config=config,
        image_size=images.train_images.shape[2],
        num_classes=images.num_classes,
    )


def _cells(trainings: Iterable[TrainedCell], config: TableConfig) -> tuple[TableNetwork, ...]:
    """The cells whose names hash lowest, so that the file is read once and in any order."""
    kept: dict[str, list[TrainedCell]] = {}
    for training in trainings:
        kept.setdefault(training.module_hash, []).append(training)
        if len(kept) > 4 * config.num_networks:
            kept = {name: kept[name] for name in _drawn(kept, config)}
    found: list[TableNetwork] = []
    for name in _drawn(kept, config):
        most = max(training.num_epochs for training in kept[name])
        final = [each.final.test_accuracy for each in kept[name] if each.num_epochs == most]
        found.append(TableNetwork(name, kept[name][0].cell, float(np.mean(final))))
    return tuple(found)


def _genotypes(trained: Iterable[TrainedGenotype], config: TableConfig) -> tuple[TableNetwork, ...]:
    by_name = {f"network {each.number}": each for each in trained}
    return tuple(
        TableNetwork(name, by_name[name], by_name[name].test_accuracy)
        for name in _drawn(by_name, config)
    )


def _drawn(names: Iterable[str], config: TableConfig) -> list[str]:
    def order(name: str) -> bytes:
        return sha256(f"{config.network_seed} {name}".encode()).digest()

    return sorted(names, key=order)[: config.num_networks]
