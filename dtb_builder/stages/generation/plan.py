"""Plan a run folder: its runs, and the provenance of its files."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.errors import ConfigError, PlanMismatchError
from dtb_builder.images.image_set import Images, check_images
from dtb_builder.images.loaders import check_image_set
from dtb_builder.images.settings import load_split_images
from dtb_builder.images.splits import Split, indices_sha256
from dtb_builder.space import NAMED, Genotype, mutate, read_genotypes, sample_uniform
from dtb_builder.space.listing import find_genotype, no_such_name
from dtb_builder.space.sampling import uniform_text
from dtb_builder.stages.generation.adopt import Wanted, check_studies
from dtb_builder.stages.generation.parent import parents, parents_provenance
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.settings.config import Config, deciding_settings
from dtb_builder.stages.settings.network import network_spec
from dtb_builder.stages.settings.space import SpaceConfig
from dtb_builder.stages.work.disk import storage_is_named
from dtb_builder.training.kernels import with_kernels_settled

__all__ = ["check_names", "genotypes_of", "plan"]

_MOST_DRAWS = 100
"""The draws per wanted genotype after which no more different genotypes are expected."""

_PLAN_SECONDS = 600
"""The time to wait for other processes that plan the same folder, such as jobs of an array."""


def plan(
    folder: RunFolder,
    config: Config,
    *,
    adopting: Sequence[Path] = (),
    widening: Sequence[Path] = (),
) -> None:
    """Plan a run folder; the same config on a planned folder changes nothing.

    Only the root of the images may change, if they have moved.

    Args:
        folder: to plan.
        config: its config.
        adopting: studies whose runs it is to take over; that it cannot is known before anything is
            written.
        widening: studies whose runs it is to train again, likewise.

    Raises:
        PlanMismatchError: the folder was planned with another config, or its genotypes changed; or
            one of the studies was trained with other settings.
        ConfigError: the config is not valid, or the folder cannot be written to.
        StorageError: the disk failed while the plan was written; then there is no plan.
        ImagesError: the images cannot be read.
        GenotypeError: a genotype is not valid.
    """
    config = _with_absolute_paths(config)
    if folder.is_planned:
        _check_planned(folder, config)
        return
    compute = with_kernels_settled(config.compute, config.recipe, channels=config.network.channels)
    settled = replace(config, compute=compute)
    # Uniform draws never run out; whatever else is wrong is known before anything is written.
    runs = _runs(folder, settled)
    if config.space.kind != "uniform":
        runs = iter(list(runs))
    images, split = load_split_images(config.images)
    _check_moments(config, len(split.train))
    provenance = _provenance(settled, images, split)
    if config.branch is not None:
        provenance["parent"] = parents_provenance(folder.parent_file)
        sha256 = provenance["parent"]["images"]["sha256"]
        check_images(images, sha256, user="the benchmark that is branched from")
    if adopting or widening:
        moments = settled.moments(len(split.train))
        wanted = Wanted(folder.path, provenance, moments, settled.momentum_epochs)
        check_studies(wanted, adopting=adopting, widening=widening)
    folder.check_writeable()
    with storage_is_named(folder.path), folder.locked(seconds=_PLAN_SECONDS):
        if not folder.is_planned:
            folder.write_plan(settled, provenance, runs)
            return
    _check_planned(folder, config)  # by another job that began at the same time


def _check_planned(folder: RunFolder, config: Config) -> None:
    """Check that a folder was planned with a config, and store the new root of its images."""
    if config.compute.kernels == "auto":  # whatever it was settled to
        kernels = folder.config.compute.kernels
        config = replace(config, compute=replace(config.compute, kernels=kernels))
    folder.check_config(config)
    _check_runs(folder, _runs(folder, config))
    if config.images.root not in (None, folder.config.images.root):
        images, _ = load_split_images(config.images)
        check_images(images, folder.provenance_settings["images"]["sha256"], user=folder.path)
        with storage_is_named(folder.path), folder.locked():
            folder.write_config(replace(folder.config, images=config.images))


def _with_absolute_paths(config: Config) -> Config:
    """The config with absolute paths, for workers in other folders and on other machines."""

    def absolute(path: str | None) -> str | None:
        return None if path is None else str(Path(path).expanduser().absolute())

    return replace(
        config,
        images=replace(config.images, root=absolute(config.images.root)),
        space=replace(config.space, file=absolute(config.space.file)),
    )


def check_names(config: Config) -> None:
    """Check the names in a config, of genotypes and of the image set, without reading a file.

    Raises:
        ConfigError: one is unknown.
        GenotypeError: the parent is no genotype.
    """
    check_image_set(config.images.name)
    if config.space.kind in ("named", "mutations"):
        for _ in genotypes_of(config.space):
            pass


def genotypes_of(space: SpaceConfig) -> Iterator[Genotype]:
    """The genotypes of a config, all different and in canonical spelling.

    A draw that repeats an earlier one is skipped.

    Raises:
        GenotypeError: a genotype is not valid; the message has file and line.
        ConfigError: the file cannot be read, there is no such named genotype, one is listed twice,
            or there are too few different ones.
    """
    if space.kind == "uniform":
        yield from _different(
            (sample_uniform(space.seed, i) for i in itertools.count()), space.num_genotypes
        )
    elif space.kind == "mutations":
        assert space.parent is not None
        parent = find_genotype(space.parent)
        mutations = (mutate(parent, space.seed, i) for i in itertools.count())
        yield from _different(itertools.chain([parent.canonical()], mutations), space.num_genotypes)
    elif space.kind == "file":
        assert space.file is not None
        try:
            genotypes = read_genotypes(space.file)
        except OSError as error:
            raise ConfigError(f"space.file cannot be read: {error}") from error
        yield from _listed_once(genotypes, f"space.file {space.file}")
    elif space.kind == "branch":
        raise ConfigError("space.kind=branch has no genotypes of its own")
    else:
        names = space.names or tuple(NAMED)
        if unknown := sorted(set(names) - set(NAMED)):
            raise ConfigError(f"space.names: {no_such_name(unknown[0])}")
        yield from _listed_once([NAMED[name] for name in names], "space.names")


def _texts_of(space: SpaceConfig) -> Iterator[str]:
    """The texts of `genotypes_of`; uniform ones without Genotype objects, as plans may be long."""
    if space.kind != "uniform":
        yield from map(str, genotypes_of(space))
        return
    seen: set[bytes] = set()
    texts = (uniform_text(space.seed, i) for i in itertools.count())
    while len(seen) != space.num_genotypes:
        text = next(texts)
        key = blake2b(text.encode(), digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            yield text


def _different(draws: Iterator[Genotype], wanted: int | None) -> Iterator[Genotype]:
    """The first different genotypes of an endless sequence of draws."""
    assert wanted is not None, "checked by SpaceConfig"
    seen: set[str] = set()
    for in_vain in itertools.count():
        if in_vain > _MOST_DRAWS * wanted + _MOST_DRAWS:
            raise ConfigError(
                f"space.num_genotypes={wanted}: only {len(seen)} different ones were drawn"
            )
        genotype = next(draws)
        if genotype.key not in seen:
            seen.add(genotype.key)
            yield genotype
        if len(seen) == wanted:
            return


def _listed_once(genotypes: Sequence[Genotype], where: str) -> Iterator[Genotype]:
    """The listed genotypes in canonical spelling; a genotype that is listed twice is an error."""
    seen: dict[Genotype, int] = {}
    for position, listed in enumerate(genotypes, start=1):
        genotype = listed.canonical()
        if genotype in seen:
            raise ConfigError(
                f"{where} lists one genotype twice, as number {seen[genotype]} and {position}: "
                f"{genotype}; to train it more than once, give several seeds"
            )
        seen[genotype] = position
        yield genotype


def _runs(folder: RunFolder, config: Config) -> Iterator[PlannedRun]:
    """Every genotype with every seed and order seed, numbered in this order.

    For a branch: every parent run with every order seed.
    """
    if config.branch is None:
        drawn = ((text, seed, seed) for text in _texts_of(config.space) for seed in config.seeds)
    else:
        runs = parents(folder.parent_file, config.branch)
        drawn = ((str(run.genotype), run.seed, run.order_seed) for run in runs)
    number = 0
    for text, seed, own in drawn:
        for order_seed in (own,) if config.order_seeds is None else config.order_seeds:
            yield PlannedRun(number, number // config.shard_size, seed, order_seed, text)
            number += 1


def _check_runs(folder: RunFolder, runs: Iterator[PlannedRun]) -> None:
    """Refuse runs that differ from the folder's, as after a change of the genotypes file."""
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
            f"{folder.path} was planned with more genotypes: run {left.number} is missing"
        )


def _check_moments(config: Config, num_images: int) -> None:
    """Check that there are enough training images, and that all moments are in the training.

    Raises:
        ConfigError: there are too few images, or a moment is beyond the training.
    """
    if num_images < 2:
        raise ConfigError(f"at least 2 images must be trained on, images leaves {num_images}")
    config.moments(num_images)


def _provenance(config: Config, images: Images, split: Split) -> dict[str, Any]:
    """The provenance that every file of the plan has; without the paths of this machine."""
    test = split.test_indices(len(images.test_labels))
    return {
        "config": deciding_settings(config),
        "network": asdict(network_spec(config.network, images)),
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
