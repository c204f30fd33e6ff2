"""A generation and a merge on a disk that fills up, and after that has space again."""

import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaos.kills import KillReport, content
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.status import status

__all__ = ["KILOBYTES", "fill_and_go_on"]

KILOBYTES = (16, 64, 128, 200, 300, 400, 600, 800)
"""Sizes of a disk on which the plan does not fit."""

PLAN = (
    "images.num_valid=1300",
    "network.channels=4",
    "network.layers=3",
    "recipe.num_epochs=3",
    "space.num_genotypes=3",
    "shard_size=1",
    "cluster=serial",
)


def fill_and_go_on(
    work: Path, kilobytes: tuple[int, ...] = KILOBYTES
) -> tuple[str, int, KillReport]:
    """Fill the disk at ever later moments; returns how, how often, and what it cost."""
    report = KillReport()
    whole = work / "whole"
    _dtb("generate", whole, *PLAN)
    _dtb("merge", whole)
    expected = content(whole / "dtb.h5")
    with _small_disk(work, kilobytes) as (how, disk, limits):
        num_full = 0
        folder = disk / "run"
        for limit in limits:
            num_full += _attempt(folder, limit, report)
        _attempt(folder, None, report)
        found = content(folder / "dtb.h5")
    report.num_wrong = sum(found.get(key) != expected.get(key) for key in expected)
    return how, num_full, report


def _attempt(folder: Path, limit: int | None, report: KillReport) -> bool:
    """One launch with so much space; whether it ran out of it. Nothing finished may be lost."""
    before = status(RunFolder(folder)).num_epochs if RunFolder(folder).is_planned else 0
    full = False
    for command in (("generate", folder, *PLAN), ("merge", folder)):
        done = _dtb(*command, limit=limit)
        if done.returncode:
            full = True
            if "cannot be written to" not in done.stderr:
                report.num_unreadable += 1
                report.notes.append(done.stderr[-300:])
            break
    after = status(RunFolder(folder)).num_epochs if RunFolder(folder).is_planned else 0
    report.num_lost += max(0, before - after)
    return full


def _dtb(*arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command, in a process whose files may have so many bytes."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "dtb_builder.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
        timeout=300,
    )


@contextmanager
def _small_disk(work: Path, kilobytes: tuple[int, ...]) -> Iterator[tuple[str, Path, Any]]:
    """A disk that can be filled: a small tmpfs where it can be mounted, else a limit of sizes."""
    disk = Path(tempfile.mkdtemp(dir=work))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        yield "a limit of file sizes", disk, (1_000, 20_000, 60_000, 100_000)
        return
    try:
        yield "a small tmpfs", disk, _growing(disk, kilobytes)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _growing(disk: Path, kilobytes: tuple[int, ...]) -> Iterator[None]:
    """The tmpfs grows before each attempt, so that the space ends ever later."""
    for size in kilobytes:
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
        yield None
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    assert shutil.disk_usage(disk).free > 2**25
