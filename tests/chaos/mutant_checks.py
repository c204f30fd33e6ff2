"""Reading mutants in processes of their own, which may crash, hang or take too much memory."""

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from chaos import fake_runs, reading
from chaos.mutants import OTHER_FACTS, damaged, hostile, replaced
from dtb_builder.dataset.journal import Journal, read_journal
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.store import FailedRun
from dtb_builder.space import sample_uniform

__all__ = [
    "MAX_MIB",
    "MutantReport",
    "check_damaged",
    "check_hostile",
    "check_replaced",
    "make_files",
]

MAX_MIB = 512
_BATCH = 100
_SECONDS_PER_BATCH = 120
GOOD = ("right", "refused", "refused in part", "other facts")


@dataclass
class MutantReport:
    """What became of mutants.

    Attributes:
        outcomes: how many of each outcome; those in GOOD are as they should be.
        bad: the mutants with another outcome.
        peak_mib: the most memory that a reader used.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    peak_mib: float = 0.0

    def add(self, mutant: str, outcome: str, detail: str, mib: float) -> None:
        """Count one mutant."""
        if outcome == "WRONG" and mutant in OTHER_FACTS:
            outcome = "other facts"
        self.outcomes[outcome] += 1
        self.peak_mib = max(self.peak_mib, mib)
        if outcome not in GOOD or mib > MAX_MIB:
            self.bad.append(f"{mutant}: {outcome} {detail} ({mib:.0f} MiB)")


def make_files(folder: Path) -> dict[str, Path]:
    """A shard, and a benchmark in one file, of four runs and a failure."""
    journals: list[Journal] = []
    for number in range(4):
        path = folder / f"{number}.journal"
        fake_runs.write_journal(path, number)
        journals += [read for read in (read_journal(path),) if read is not None]
    failure = FailedRun(9, sample_uniform(0, 9), 0, 0, 2, "RuntimeError: no luck")
    shard, benchmark = folder / "shard.h5", folder / "dtb.h5"
    write_shard(
        shard,
        journals,
        [failure],
        provenance=fake_runs.PROVENANCE,
        **fake_runs.SHAPE,
    )
    for _ in merge([shard], benchmark):
        pass
    return {"shard": shard, "benchmark": benchmark}


def check_damaged(path: Path, work: Path, num_mutants: int, seed: int) -> MutantReport:
    """Read so many mutants of a file, some in each process."""
    report = MutantReport()
    truth = _write_truth(path, work)
    mutants = damaged(path, num_mutants, seed)
    while batch := list(islice(mutants, _BATCH)):
        files = []
        for i, (_, data) in enumerate(batch):
            file = work / f"mutant-{i:04d}.h5"
            file.write_bytes(data)
            files.append(file)
        names = {file.name: what for file, (what, _) in zip(files, batch, strict=True)}
        _read(truth, files, names, report)
    return report


def check_hostile(path: Path, work: Path) -> MutantReport:
    """Read every hostile mutant of a file."""
    report = MutantReport()
    truth = _write_truth(path, work)
    mutants = {file: what for what, file in hostile(path, work)}
    _read(truth, list(mutants), {file.name: what for file, what in mutants.items()}, report)
    return report


def check_replaced(shard: Path, work: Path) -> MutantReport:
    """Read a benchmark with volumes of which a file is a link, a pipe and the like."""
    report = MutantReport()
    sound, mutants = work / "sound", work / "mutants"
    sound.mkdir()
    mutants.mkdir()
    for _ in merge([shard], sound / "dtb.h5", volume_size=10**9):
        pass
    truth = _write_truth(sound / "dtb.h5", work)
    files = {file: what for what, file in replaced(sound / "dtb.h5", mutants)}
    _read(truth, list(files), {file.name: what for file, what in files.items()}, report)
    return report


def _write_truth(path: Path, work: Path) -> Path:
    truth = work / "truth"
    truth.write_bytes(pickle.dumps(dict(reading.said(path))))
    return truth


def _read(truth: Path, files: list[Path], names: dict[str, str], report: MutantReport) -> None:
    """Read files in one process; where it dies, count that file and go on behind it."""
    while files:
        done = list(_outcomes(truth, files))
        for name, outcome, detail, mib in done:
            report.add(names[name], outcome, detail, mib)
        files = files[len(done) :]
        if files:
            report.add(names[files[0].name], "CRASH OR HANG", "", 0.0)
            files = files[1:]


def _outcomes(truth: Path, files: Iterable[Path]) -> Iterator[tuple[str, str, str, float]]:
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root.parent}"}
    command = [sys.executable, str(Path(reading.__file__)), str(truth), *map(str, files)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS_PER_BATCH,
            env=environment,
        )
        printed = done.stdout
    except subprocess.TimeoutExpired as expired:
        printed = (expired.stdout or b"").decode()
    for line in printed.splitlines():
        name, outcome, detail, mib = json.loads(line)
        yield name, outcome, detail, mib
