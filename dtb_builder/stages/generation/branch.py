"""Plan runs that continue from stored runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from dtb_builder.dataset import Benchmark, Run
from dtb_builder.dataset.provenance import whole_provenance
from dtb_builder.errors import ConfigError
from dtb_builder.images.settings import ImagesConfig
from dtb_builder.stages.generation.parent import origin_of, runs_sha256, write_parents
from dtb_builder.stages.generation.plan import plan
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.settings.config import Config
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.stages.settings.plain import plain
from dtb_builder.stages.work.disk import storage_is_named
from dtb_builder.training.recipe import Recipe

__all__ = ["branch"]

_CHANGEABLE = ("recipe", "order_seeds", "states", "images", "shard_size")
_NO_SPACE = {"seed": 0, "num_genotypes": None, "file": None, "parent": None, "names": ()}


def branch(
    benchmark: Benchmark,
    folder: RunFolder,
    numbers: Sequence[int],
    *,
    epoch: int,
    changed: Mapping[str, Any],
) -> None:
    """Plan a run folder whose runs continue stored runs from the end of an epoch.

    Each run continues with its own order seed, or once with each order seed of ``changed``. The
    same arguments on a planned folder change nothing.

    Args:
        benchmark: an open benchmark or shard, which may itself be of a branch.
        folder: the run folder to plan.
        numbers: the numbers of the stored runs.
        epoch: the epoch after which the runs continue.
        changed: the settings that differ from the benchmark's, nested as in a config.

    Raises:
        KeyError: the benchmark has no such run or epoch.
        ConfigError: a run lacks a whole state or momentum after the epoch, or a setting is not
            allowed.
        PlanMismatchError: the folder was planned with another config, or from other runs.
        DamagedFileError: a stored state does not have the checksum of the training.
        ImagesError: the images cannot be read.
    """
    runs = [benchmark.run(number) for number in sorted(set(numbers))]
    if not runs:
        raise ConfigError("name the runs to continue from")
    epoch = benchmark.epoch_row(epoch)
    for run in runs:
        _check_start(run, epoch)
    provenance = benchmark.provenance_text
    sha256 = runs[0].provenance_sha256
    origins = [origin_of(run, epoch, sha256) for run in runs]
    started = {
        "epoch": epoch,
        "provenance_sha256": sha256,
        "runs_sha256": runs_sha256(origins),
    }
    config = _config(whole_provenance(benchmark)["config"], changed, started)
    if not folder.is_planned:
        folder.check_writeable()
        with storage_is_named(folder.path), folder.locked():
            write_parents(folder.parent_file, runs, origins, provenance)
    plan(folder, config)


def _check_start(run: Run, epoch: int) -> None:
    """Check that a run can continue after an epoch.

    Raises:
        ConfigError: it cannot; the message lists the epochs after which it can.
    """
    if epoch not in (known := run.checkpoint_epochs):
        raise ConfigError(
            f"run {run.number} cannot continue from epoch {epoch}: it has a whole float32 state "
            f"and its momentum after epochs {', '.join(map(str, known)) or '(none)'}; "
            "states.momentum keeps the momentum"
        )


def _config(parent: Mapping[str, Any], changed: Mapping[str, Any], started: object) -> Config:
    """The parent's config with the changed settings and the start of the branch."""
    if other := sorted(changed.keys() - set(_CHANGEABLE)):
        raise ConfigError(f"a branch may have other {', '.join(_CHANGEABLE)}, not {other[0]}")
    settings: dict[str, Any] = {**parent, "order_seeds": None, "branch": started}
    settings["space"] = {**_NO_SPACE, "kind": "branch"}
    settings["images"] = {"root": None, **parent["images"]}
    for key, value in changed.items():
        known = settings.get(key)
        settings[key] = {**known, **value} if isinstance(known, Mapping) else value
    config = parse(Config, settings)
    images = parse(ImagesConfig, {"root": None, **parent["images"]})
    if plain(config.images) | {"root": None} != plain(images):
        raise ConfigError("a branch trains on its parent's images")
    if config.recipe.batch_size != parse(Recipe, parent["recipe"]).batch_size:
        raise ConfigError(
            "recipe.batch_size cannot change in a branch, which continues to count the steps"
        )
    return config
