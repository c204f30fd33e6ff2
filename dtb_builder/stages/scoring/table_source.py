"""Newly initialised networks of a published table, as a source of networks to score."""

from collections.abc import Callable, Iterable, Iterator
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
from dtb_builder.space import Genotype
from dtb_builder.stages.scoring.sources import Moment, ScoredState, Unit
from dtb_builder.tables import (
    Outsider,
    TrainedCell,
    TrainedGenotype,
    read_nasbench101,
    read_nds,
    read_oncenas,
    read_retrained,
    read_run301,
)
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

TABLES = ("nasbench101", "nds", "nasbench301", "oncenas", "retrained")
_INITIALISED = Moment(epoch=0)


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Which networks of a table are scored, and on which images.

    Attributes:
        num_networks: how many are drawn from the table; all, if it has fewer.
        network_seed: the seed of the draw and of the networks' weights.
        channels: channels of the first stack of a NAS-Bench-101 network; 128 in the publication.
        images: the images of the probe; CIFAR-10 in the publications.
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
        name: its name in the table.
        architecture: a cell of NAS-Bench-101, or a genotype with its size.
        accuracy: the final test accuracy, in [0, 1]; the mean over the trainings with the most
            epochs.
    """

    name: str
    architecture: Cell101 | TrainedGenotype
    accuracy: float


@dataclass(frozen=True)
class TableSource:
    """Drawn networks of a table, newly initialised; see `sources.Source`.

    Attributes:
        kind: the table, one of TABLES.
        digest: the SHA-256 of its file.
        networks: the drawn networks.
        config: how they were drawn.
        image_size: height and width of the probe images in pixels.
        num_classes: the number of classes of the probe images.
    """

    kind: str
    digest: str
    networks: tuple[TableNetwork, ...]
    config: TableConfig
    image_size: int
    num_classes: int

    def about(self) -> dict[str, Any]:
        """The file's hash, and how networks were drawn from it."""
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
        """The images from which the probe is drawn."""
        return replace(self.config.images, root=root or self.config.images.root)

    def adapted(self, images: Tensor) -> Tensor:
        """Probe images with three channels; a single channel is repeated."""
        three = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        return three.contiguous(memory_format=torch.channels_last)

    def features(self, number: int) -> str:
        """The module whose output is the last maps before pooling."""
        architecture = self.networks[number].architecture
        if isinstance(architecture, TrainedGenotype):
            return f"cells.{architecture.layers - 1}"
        return "features"

    @property
    def spec(self) -> None:
        """None: networks of a table have no common spec, and so no reference sample."""
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
        The file's SHA-256, the drawn networks, and how many of the file are outside the space.

    Raises:
        FileNotFoundError: there is no such file.
        TableError: the file is damaged or not of this table, or has fewer than 2 networks.
        ConfigError: there is no such table.
    """
    if kind not in TABLES:
        raise ConfigError(f"--benchmark must be one of {', '.join(TABLES)}, got {kind!r}")
    if kind == "nasbench101":
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
            file.seek(0)
            networks, num_outside = _cells(read_nasbench101(file), config), 0
    else:
        digest, trained, outside = _READERS[kind](path, config)
        networks, num_outside = _genotypes(trained, config), len(outside)
    if len(networks) < 2:
        raise TableError(f"{path} must have at least 2 networks to rank, got {len(networks)}")
    return digest, networks, num_outside


def make_source(
    kind: str,
    digest: str,
    networks: tuple[TableNetwork, ...],
    config: TableConfig,
    images_root: str | None,
) -> TableSource:
    """A source of the networks of `read_table`, with the size of the images of this machine.

    Raises:
        ImagesError: the images are not on this machine.
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
    """The cells whose names have the lowest hashes, whatever the order of the file."""
    kept: dict[str, list[TrainedCell]] = {}
    for training in trainings:
        kept.setdefault(training.module_hash, []).append(training)
        if len(kept) > 4 * config.num_networks:
            kept = {name: kept[name] for name in _drawn(kept, config)}
    networks: list[TableNetwork] = []
    for name in _drawn(kept, config):
        most = max(training.num_epochs for training in kept[name])
        final = [each.final.test_accuracy for each in kept[name] if each.num_epochs == most]
        networks.append(TableNetwork(name, kept[name][0].cell, float(np.mean(final))))
    return tuple(networks)


Trained = tuple[tuple[TrainedGenotype, ...], tuple[Outsider, ...]]


def _text_of(read: Callable[[str], Trained], path: Path) -> tuple[str, *Trained]:
    data = path.read_bytes()
    try:
        return sha256(data).hexdigest(), *read(data.decode())
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not UTF-8 text: {error}") from error


def _retrained(path: Path) -> tuple[str, *Trained]:
    """The genotypes of a pickle, with the curves in the file beside it."""
    curves = path.with_name("214_random_architectures.npy")
    try:
        accuracies = np.load(curves, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise TableError(f"{curves} is no array of numbers: {error}") from error
    data = path.read_bytes()
    digest = sha256(data + curves.read_bytes()).hexdigest()
    return digest, read_retrained(data, accuracies), ()


def _runs301(path: Path, config: TableConfig) -> tuple[str, *Trained]:
    """Runs of a folder, of which only those that are drawn are read."""
    files = {_name(i): file for i, file in enumerate(sorted(path.rglob("results_*.json")))}
    digest, found, recipes = sha256(), [], []
    for name in _drawn(files, config):
        data = files[name].read_bytes()
        digest.update(data)
        try:
            trained, recipe = read_run301(data.decode(), int(name.rpartition(" ")[2]))
        except (TableError, UnicodeDecodeError) as error:
            raise TableError(f"{files[name]}: {error}") from error
        found.append(trained)
        recipes.append(recipe)
        if recipe != recipes[0]:
            differ = sorted(key for key in recipe if recipe[key] != recipes[0].get(key))
            raise TableError(
                f"{path} has runs of several recipes, which cannot be ranked together: they differ "
                f"in {', '.join(differ)}; give the folder of one"
            )
    return digest.hexdigest(), tuple(found), ()


_READERS: dict[str, Callable[[Path, TableConfig], tuple[str, *Trained]]] = {
    "nds": lambda path, _: _text_of(read_nds, path),
    "nasbench301": _runs301,
    "oncenas": lambda path, _: _text_of(read_oncenas, path),
    "retrained": lambda path, _: _retrained(path),
}


def _genotypes(trained: Iterable[TrainedGenotype], config: TableConfig) -> tuple[TableNetwork, ...]:
    """Those whose names hash lowest; one that stands there several times has its mean accuracy."""
    same: dict[tuple[Genotype, int, int], list[TrainedGenotype]] = {}
    for each in trained:
        same.setdefault((each.genotype, each.channels, each.layers), []).append(each)
    by_name = {_name(found[0].number): found for found in same.values()}
    return tuple(
        TableNetwork(
            name,
            by_name[name][0],
            float(np.mean([each.test_accuracy for each in by_name[name]])),
        )
        for name in _drawn(by_name, config)
    )


def _name(number: int) -> str:
    return f"network {number}"


def _drawn(names: Iterable[str], config: TableConfig) -> list[str]:
    def order(name: str) -> bytes:
        return sha256(f"{config.network_seed} {name}".encode()).digest()

    return sorted(names, key=order)[: config.num_networks]
