"""The files of a scoring, finished and in progress; no other module knows their names."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtb_builder.dataset.atomic import remove_unfinished, write_whole
from dtb_builder.dataset.json_object import check_shape, json_object
from dtb_builder.errors import DamagedFileError
from dtb_builder.stages.settings.plain import check_settings, flat
from dtb_builder.stages.work.locking import held

__all__ = ["ScoreFolder", "compared"]

_LOCK_SECONDS = 2
_UNIT_LOCK_SECONDS = 60
"""Longer than a worker lives on after its cluster has ended."""


@dataclass(frozen=True)
class ScoreFolder:
    """The file of scores, ``scores.parquet``, and the folder of a scoring in progress.

    The folder is ``scores.parquet.working``. It has the settings and the lines of each run.
    """

    file: Path

    @property
    def working(self) -> Path:
        """The folder of the scoring in progress."""
        return self.file.with_name(f"{self.file.name}.working")

    @property
    def settings_file(self) -> Path:
        """The source, settings and probe of the scoring."""
        return self.working / "settings.json"

    @property
    def ray_log_file(self) -> Path:
        """Ray's log."""
        return self.working / "ray.log"

    def lines_file(self, number: int) -> Path:
        """The scores of a run's states, one line per state."""
        return self.working / f"run-{number:08d}.lines"

    def reference_file(self, num_images: int, start: int) -> Path:
        """The atoms of a part of a reference sample, which begins with genotype `start`."""
        return self.working / f"reference-{num_images:06d}-{start:08d}.lines"

    def begin(self, about: Mapping[str, Any]) -> None:
        """Make the working folder, or check that it has the same source and settings.

        Raises:
            PlanMismatchError: it has other settings.
            DamagedFileError: its settings cannot be read.
        """
        if not self.settings_file.exists():
            self.working.mkdir(exist_ok=True)
            text = json.dumps(dict(about), sort_keys=True, indent=1)
            write_whole(self.settings_file, text.encode())
            return
        try:
            stored = json_object(self.settings_file.read_bytes(), self.settings_file)
            check_shape(stored, {"probe": dict}, str(self.settings_file), whole=True)
        except DamagedFileError as error:
            error.add_note(f"remove {self.working}")
            raise
        check_settings(
            compared(stored),
            compared(about),
            what=f"{self.working} was begun with other settings",
            instead="use these settings, remove the folder, or score --into another file",
        )

    def clear(self) -> None:
        """Remove the working folder, once the file of scores is written."""
        assert self.file.exists(), f"{self.file} does not exist yet"
        shutil.rmtree(self.working, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the file of scores.

        Raises:
            LockedError: another process holds it.
        """
        lock = self.file.with_name(f".{self.file.name}.lock")
        with held(
            lock,
            seconds=_LOCK_SECONDS,
            otherwise=lambda: f"{self.file} is being made by another process",
        ):
            remove_unfinished(self.file.parent, [self.file.name])
            remove_unfinished(self.working, ["settings.json", "*.lines"])
            yield

    @contextlib.contextmanager
    def unit_locked(self, lines: Path) -> Iterator[None]:
        """Hold the lock of a file of lines, since a worker may live on after its cluster.

        Raises:
            LockedError: another process has held it all the time.
        """
        with held(
            lines.with_suffix(".lock"),
            seconds=_UNIT_LOCK_SECONDS,
            otherwise=lambda: f"another process appends to {lines}",
        ):
            yield


def compared(about: Mapping[str, Any]) -> dict[str, Any]:
    """What two scorings must have in common, for `check_settings`: source, settings and probe.

    A probe is compared by its hash. Kernels only train, so their setting does not matter. Neither
    do a person's own scores: rows say which they have.
    """
    probe = {key: value for key, value in about["probe"].items() if key != "indices"}
    kept = {
        key: value
        for key, value in about.items()
        if not key.endswith(("reference", "references", "own"))
    }
    leaves = flat(kept | {"probe": probe})
    leaves.pop("settings.compute.kernels", None)
    return leaves
