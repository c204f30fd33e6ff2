"""Unite benchmarks with the same recipe: each run once, with new numbers."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dtb_builder.dataset.copying import CopiedRun, Part, Sources, copy_runs
from dtb_builder.dataset.identity import bits_that_differ, identities, identity
from dtb_builder.dataset.kept import Kept
from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.dataset.store import FailedRun, Store
from dtb_builder.errors import ContradictionError, PlanMismatchError
from dtb_builder.record import TRAINED_HERE
from dtb_builder.stages.generation.same_study import check_same_study

__all__ = ["unite"]

_PLAN_SETTINGS = ("space", "seeds", "order_seeds", "shard_size", "branch")
_MOST_NAMED = 10


def unite(
    files: Sequence[Path],
    target: Path,
    *,
    keep_first: bool = False,
    volume_size: int | None = None,
) -> Iterator[CopiedRun]:
    """Write the runs of several benchmarks to one file; it appears after the last run is copied.

    The runs of the first file come first, then the other runs of the second file, and so on; runs
    that failed in all files come last. Frames are copied without decoding.

    Args:
        files: benchmarks or shards with the same deciding settings and the same moments.
        target: the file to write.
        keep_first: whether to keep the first of runs with different bits, instead of raising.
        volume_size: see `merge`.

    Yields:
        each run once it is copied, by number.

    Raises:
        PlanMismatchError: a file has other deciding settings or other moments.
        ContradictionError: a run has different bits in two files.
        DamagedFileError: a file is damaged; then nothing is written.
    """
    with contextlib.closing(Sources()) as sources:
        first = sources.of(files[0])
        wanted, moments = first.provenance, first.index.moments
        known: dict[bytes, tuple[Path, int]] = {}
        contradictions: list[str] = []
        parts: list[Part] = []
        for file in files:
            store = sources.of(file)
            store.check_known()
            check_same_study(wanted, store.provenance, where=str(file), user=str(files[0]))
            if store.index.moments != moments:
                raise PlanMismatchError(
                    f"{file} and {files[0]} keep states at other moments: "
                    "dtb subset --states makes both keep the same"
                )
            rows: list[int] = []
            for row, run in enumerate(identities(store)):
                if run not in known:
                    known[run] = file, row
                    rows.append(row)
                elif not keep_first:
                    contradictions += _contradiction(sources, known[run], (file, row))
            numbers = np.arange(len(known) - len(rows), len(known))
            parts.append(
                Part.adopting(store, np.array(rows, np.intp), numbers, Kept(moments, moments))
            )
        if contradictions:
            raise ContradictionError(_listed(contradictions))
        with damage_is_named(", ".join(map(str, files))):
            provenance = _provenance(map(sources.of, files))
        yield from copy_runs(
            parts,
            target,
            sources,
            provenance=provenance,
            num_epochs=first.index.num_epochs,
            failures=_failures(map(sources.of, files), known.keys()),
            volume_size=volume_size,
        )


def _contradiction(
    sources: Sources, one: tuple[Path, int], other: tuple[Path, int]
) -> Iterator[str]:
    stores = [sources.of(path) for path, _ in (one, other)]
    rows = [one[1], other[1]]
    differs = bits_that_differ(stores[0], rows[0], stores[1], rows[1])
    if differs is None:
        return
    names = [
        f"run {store.index.numbers[row]} of {store.path}, trained on {_device(store, row)}"
        for store, row in zip(stores, rows, strict=True)
    ]
    yield f"{differs} differs between {names[0]}, and {names[1]}"


def _device(store: Store, row: int) -> str:
    last = int(store.index.cell("runs/num_epochs", row))
    about = store.environments[int(store.index.cell("runs/environment", row)[last])]
    return str(about.get("device_name", "an unknown device"))


def _listed(contradictions: Sequence[str]) -> str:
    more = len(contradictions) - _MOST_NAMED
    return "\n  ".join(
        [
            f"{len(contradictions)} runs have different bits in two files:",
            *contradictions[:_MOST_NAMED],
            *([f"and {more} more"] if more > 0 else []),
            "--keep first takes the runs of the file that is named first",
        ]
    )


def _failures(stores: Iterable[Store], finished: Any) -> list[FailedRun]:
    """The runs that failed in all files, numbered after all others."""
    failures: dict[bytes, FailedRun] = {}
    for failure in (failure for store in stores for failure in store.failures):
        key = bytes.fromhex(failure.genotype.key)
        run = identity(key, failure.seed, failure.order_seed, TRAINED_HERE)
        if run not in finished:
            failures.setdefault(run, failure)
    first = len(finished)
    return [replace(failure, number=first + i) for i, failure in enumerate(failures.values())]


def _provenance(stores: Iterable[Store]) -> str:
    """The provenance of the first file, with the plans of all files instead of its own."""
    plans: dict[str, dict[str, Any]] = {}
    united: dict[str, Any] = {}
    for store in stores:
        found = store.provenance
        united = united or store.provenance
        own = {name: found["config"][name] for name in _PLAN_SETTINGS if name in found["config"]}
        for name in ("plan", "subset_of"):
            if name in found:
                own[name] = found[name]
        plan = {"provenance_sha256": store.provenance_sha256, **own}
        for listed in found.get("plans", [plan]):
            plans.setdefault(listed["provenance_sha256"], listed)
    for name in ("plan", "subset_of"):
        united.pop(name, None)
    united["config"]["space"] = {"kind": "united"}
    for name in ("seeds", "order_seeds"):
        every = [plan[name] for plan in plans.values()]
        known = None in every and name == "order_seeds"
        united["config"][name] = None if known else sorted({seed for s in every for seed in s})
    united["plans"] = list(plans.values())
    return json.dumps(united, sort_keys=True, indent=1)
