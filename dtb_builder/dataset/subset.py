"""Writing a part of a benchmark: fewer runs or fewer states."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from dtb_builder.dataset.copying import CopiedRun, Part, Sources, copy_runs
from dtb_builder.dataset.json_object import check_shape
from dtb_builder.dataset.kept import Kept, thinned
from dtb_builder.dataset.query import Benchmark
from dtb_builder.dataset.run import Run, numbered_run, own_number
from dtb_builder.dataset.store import Store
from dtb_builder.record import Moment, is_logarithmic

__all__ = ["States", "copied_subset", "subset"]

States = Literal["all", "ends", "logarithmic", "none"]
"""Which states are kept: all; ends: epoch 0 (the initialisation) and the last epoch; logarithmic:
epochs 0, 1, 2, 4, 8 and so on, and the last; or none."""


def subset(
    benchmark: Benchmark | str | os.PathLike[str],
    runs: Iterable[Run | int] | None = None,
    *,
    into: str | os.PathLike[str],
    states: States = "all",
    volume_size: int | None = None,
) -> None:
    """Write a benchmark with some runs of another, and all or some of their states.

    Runs keep their numbers and metrics. Frames are copied unchanged, but a state that was stored as
    a difference to an omitted state is stored whole. ``provenance["subset_of"]`` names the original
    benchmark.

    Args:
        benchmark: an open local benchmark, or its file.
        runs: the runs or their numbers, in any order; None takes all.
        into: the file to write; it appears when it is whole.
        states: the states to keep.
        volume_size: writes the states to separate files in the same folder, each closed once it
            holds this many bytes; None writes them to ``into``.

    Raises:
        KeyError: the benchmark has no such run.
        ValueError: the benchmark is on a server or is ``into`` itself, or a run is of another file.
        MissingVolumeError: a file with states of the benchmark is missing.
        DamagedFileError: the benchmark is damaged; then nothing is written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     subset(bench, [0, 3], into=f"{folder}/small.h5", states="ends")
    ...     with Benchmark(f"{folder}/small.h5") as small:
    ...         [run.number for run in small], small.num_states
    ([0, 3], 4)
    """
    for _ in copied_subset(benchmark, runs, into=into, states=states, volume_size=volume_size):
        pass


def copied_subset(
    benchmark: Benchmark | str | os.PathLike[str],
    runs: Iterable[Run | int] | None = None,
    *,
    into: str | os.PathLike[str],
    states: States = "all",
    volume_size: int | None = None,
) -> Iterator[CopiedRun]:
    """As `subset`, but yields each run once it is copied."""
    path = benchmark.files[0] if isinstance(benchmark, Benchmark) else Path(benchmark)
    if Path(into).exists() and path.samefile(into):
        raise ValueError(f"{into} is the benchmark itself: write its subset to another file")
    with contextlib.closing(Sources()) as sources:
        store = sources.of(path)
        store.check_known()
        store.check_listed()
        numbers = store.index.numbers
        failures = store.failures
        if runs is not None:
            wanted = {own_number(store, run) for run in runs}
            failures = tuple(failure for failure in failures if failure.number in wanted)
            for number in wanted - set(numbers.tolist()) - {f.number for f in failures}:
                numbered_run(store, number)  # raises
            numbers = np.intersect1d(numbers, np.array(sorted(wanted), np.int64))
        provenance = store.provenance
        check_shape(provenance, {"subset_of": list}, f"{path}: the provenance")
        about = {"provenance_sha256": store.provenance_sha256, "states": states}
        provenance["subset_of"] = [about, *provenance.get("subset_of", ())]
        rows = np.searchsorted(store.index.numbers, numbers)
        kept = Kept(store.index.moments, _kept(store, states))
        yield from copy_runs(
            [Part.adopting(store, rows, numbers, kept)],
            Path(into),
            sources,
            provenance=json.dumps(provenance, sort_keys=True, indent=1),
            num_epochs=store.index.num_epochs,
            failures=failures,
            volume_size=volume_size,
        )


def _kept(store: Store, states: States) -> tuple[Moment, ...]:
    moments, last = store.index.moments, store.index.num_epochs
    if states == "all":
        return moments
    if states == "none":
        return ()
    if states == "ends":
        return thinned(moments, {0, last})
    if states == "logarithmic":
        return thinned(moments, {e for e in range(last + 1) if is_logarithmic(e, last)})
    raise ValueError(f"states must be all, ends, logarithmic or none, got {states!r}")
