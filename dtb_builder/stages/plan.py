"""From a config to a plan: which runs there will be, and what every file of theirs will say."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.errors import ConfigError, ImagesError, PlanMismatchError
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.space import NAMED, Genotype, mutate, read_genotypes, sample_uniform
from dtb_builder.space.listing import find_genotype
from dtb_builder.stages.config import Config, ImagesConfig, SpaceConfig
from dtb_builder.stages.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.storage import storage_is_named
from dtb_builder.training.images import Images
from dtb_builder.training.loaders import load_images
from dtb_builder.training.splits import Split, indices_sha256, stratified_split

__all__ = ["check_images", "genotypes_of", "load_split_images", "network_spec", "plan"]


def plan(folder: RunFolder, config: Config) -> None:
    """Plan a run folder; the same config on a planned folder changes nothing.

    Raises:
        PlanMismatchError: the folder was planned with another config, or its genotypes changed.
        ConfigError: the config asks for what cannot be, or the folder cannot be written to.
        StorageError: the disk gave out while the plan was written; there is no plan then.
        ImagesError: the images cannot be read.
        GenotypeError: a genotype is not valid.
    """
    if folder.is_planned:
        folder.check_config(config)
        _check_runs(folder, _runs(config))
        return
    runs = list(_runs(config))
    images, split = load_split_images(config.images)
    provenance = _provenance(config, images, split)
    folder.check_writeable()
    with storage_is_named(folder.path), folder.locked():
        folder.write_plan(config, provenance, runs)


def load_split_images(config: ImagesConfig) -> tuple[Images, Split]:
    """The images of a config, and which of their training part are for validation.

    Raises:
        ImagesError: they cannot be read.
        ConfigError: there are not enough to validate with.
    """
    images = load_images(config.name, None if config.root is None else Path(config.root))
    try:
        split = stratified_split(images.train_labels, config.num_valid, config.split_seed)
    except ValueError as error:
        raise ConfigError(f"images.num_valid: {error}") from error
    return images, split


def check_images(images: Images, expected_sha256: str, *, user: Path) -> None:
    """See that images are those that a run folder or a file was made with.

    Raises:
        ImagesError: they are not.
    """
    if images.sha256 != expected_sha256:
        raise ImagesError(
            f"{images.name} on this machine is not what {user} was made with: "
            f"SHA-256 {images.sha256[:12]}, expected {expected_sha256[:12]}"
        )


def network_spec(config: Config, images: Images) -> NetworkSpec:
    """How the config's networks are grown for its images.

    Raises:
        ConfigError: they cannot be.
    """
    _, channels, height, width = images.train_images.shape
    if height != width:
        raise ImagesError(f"{images.name}: images must be square, got {height} x {width} pixels")
    try:
        return NetworkSpec(
            channels=config.network.channels,
            layers=config.network.layers,
            num_classes=images.num_classes,
            input_channels=channels,
            image_size=height,
            auxiliary=config.network.auxiliary,
        )
    except ValueError as error:
        raise ConfigError(f"network, for images {images.name}: {error}") from error


def genotypes_of(space: SpaceConfig) -> Iterator[Genotype]:
    """The genotypes that a config asks for, in canonical spelling.

    Raises:
        GenotypeError: one is not valid; the file and line are named.
        ConfigError: the file cannot be read, or there is no such named genotype.
    """
    if space.kind == "uniform":
        assert space.num_genotypes is not None
        yield from (sample_uniform(space.seed, i) for i in range(space.num_genotypes))
    elif space.kind == "mutations":
        assert space.num_genotypes is not None
        assert space.parent is not None
        parent = find_genotype(space.parent)
        yield parent.canonical()
        yield from (mutate(parent, space.seed, i) for i in range(space.num_genotypes - 1))
    elif space.kind == "file":
        assert space.file is not None
        try:
            genotypes = read_genotypes(space.file)
        except OSError as error:
            raise ConfigError(f"space.file cannot be read: {error}") from error
        yield from (genotype.canonical() for genotype in genotypes)
    else:
        names = space.names or tuple(NAMED)
        if unknown := sorted(set(names) - set(NAMED)):
            raise ConfigError(f"space.names: no genotype {unknown}; there are {sorted(NAMED)}")
        yield from (NAMED[name].canonical() for name in names)


def _runs(config: Config) -> Iterator[PlannedRun]:
    """Every genotype with every seed, numbered in this order."""
    number = 0
    for genotype in genotypes_of(config.space):
        text = str(genotype)
        for seed in config.seeds:
            yield PlannedRun(number, number // config.shard_size, seed, text)
            number += 1


def _check_runs(folder: RunFolder, runs: Iterator[PlannedRun]) -> None:
    """Refuse runs other than the folder's, as after a change to the file of genotypes."""
    planned = folder.plan()
    for run in runs:
        stored = next(planned, None)
        if run != stored:
            raise PlanMismatchError(
                f"{folder.path} was planned with other genotypes: run {run.number} "
                f"was {stored and stored.genotype}, is now {run.genotype}"
            )
    if (left := next(planned, None)) is not None:
        raise PlanMismatchError(
            f"{folder.path} was planned with more genotypes: run {left.number} is gone"
        )


def _provenance(config: Config, images: Images, split: Split) -> dict[str, Any]:
    """What every file of the plan says of its making; without the paths of this machine."""
    settings = asdict(config)
    del settings["images"]["root"], settings["space"]["file"]
    test = np.arange(len(images.test_labels), dtype=np.int64)
    return {
        "config": settings,
        "network": asdict(network_spec(config, images)),
        "images": {
            "name": images.name,
            "sha256": images.sha256,
            "num_classes": images.num_classes,
            "shape": list(images.train_images.shape[1:]),
            "mean": images.mean.tolist(),
            "std": images.std.tolist(),
        },
        "splits": {
            "train": _split_entry("training images", split.train),
            "valid": _split_entry("training images", split.valid),
            "test": _split_entry("test images", test),
        },
    }


def _split_entry(source: str, indices: NDArray[np.int64]) -> dict[str, Any]:
    return {"of": source, "size": len(indices), "indices_sha256": indices_sha256(indices)}
