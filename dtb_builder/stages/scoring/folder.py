"""Where scores lie, finished and in progress: the only place that knows their files' names."""

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

__all__ = ["ScoreFolder", "check_about"]

_LOCK_SECONDS = 2
_UNIT_LOCK_SECONDS = 60
"""Longer than a worker outlives its cluster."""


@dataclass(frozen=True)
class ScoreFolder:
    """The file of scores, and the folder beside it while they are made.

    ========================  ==============================================================
    ``scores.parquet``        the finished scores
    ``scores.parquet.working``  while they are made: what is scored with which settings, and
                              the lines of each run
    ========================  ==============================================================
    """

    file: Path

    @property
    def working(self) -> Path:
        """Where the scores in progress lie."""
        return self.file.with_name(f"{self.file.name}.working")

    @property
    def settings_file(self) -> Path:
        """What is scored, with which settings."""
        return self.working / "settings.json"

    @property
    def ray_log_file(self) -> Path:
        """What Ray itself says meanwhile."""
        return self.working / "ray.log"

    def lines_file(self, number: int) -> Path:
        """The scores of a run's states, one line a state."""
        return self.working / f"run-{number:08d}.lines"

    def reference_file(self, num_images: int, start: int) -> Path:
        """The atoms of the reference's genotypes from one on, for so many probe images."""
        return self.working / f"reference-{num_images:06d}-{start:08d}.lines"

    def begin(self, about: Mapping[str, Any]) -> None:
        """Make the working folder, or see that it belongs to what is scored.

        Raises:
            PlanMismatchError: it belongs to something else.
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
        check_about(
            stored,
            about,
            what=f"{self.working} was begun with other settings",
            instead="use those, remove it, or score --into another file",
        )

    def clear(self) -> None:
        """Drop what is in progress, once the file is there."""
        assert self.file.exists(), f"{self.file} is not there yet"
        shutil.rmtree(self.working, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the scores: nobody else makes them meanwhile.

        Raises:
            LockedError: somebody else does.
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
        """Hold one file of lines: a worker that its cluster has given up may still be at it.

        Raises:
            LockedError: another process has held it for all the time this one waited.
        """
        with held(
            lines.with_suffix(".lock"),
            seconds=_UNIT_LOCK_SECONDS,
            otherwise=lambda: f"another process appends to {lines}",
        ):
            yield


def check_about(
    stored: Mapping[str, Any], given: Mapping[str, Any], *, what: str, instead: str
) -> None:
    """Refuse another scoring. A probe is known by its hash; kernels only train, and do not count.

    Raises:
        PlanMismatchError: as `check_settings`.
    """

    def compared(about: Mapping[str, Any]) -> dict[str, Any]:
        probe = {key: value for key, value in about["probe"].items() if key != "indices"}
        kept = {
            key: value
            for key, value in about.items()
            if not key.endswith(("reference", "references"))
        }
        leaves = flat(kept | {"probe": probe})
        leaves.pop("settings.compute.kernels", None)
        return leaves

    check_settings(compared(stored), compared(given), what=what, instead=instead)
