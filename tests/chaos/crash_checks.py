"""What must hold after a crash in an append to a journal, an adoption, a shard close or a merge."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from chaos import fake_runs
from chaos.crash_points import Call, crashes, record
from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.journal import read_journal
from dtb_builder.dataset.verify import verify

__all__ = ["PROGRAMS", "CrashReport", "check_crashes"]

RUNS = (1, 3)
"""The runs of a shard; the latter diverged."""

PROGRAMS = ("journal", "adopt", "shard", "merge", "merge into volumes")


@dataclass
class CrashReport:
    """What a program's crashes did.

    Attributes:
        num_calls: recorded system calls.
        num_crashes: crashes replayed.
        num_lost: acknowledged epochs that were not there afterwards.
        num_wrong: values that were there and wrong.
        num_unreadable: files under a final name that could not be read.
        sound_files: the runs of files that were read and right, by their bytes.
    """

    num_calls: int = 0
    num_crashes: int = 0
    num_lost: int = 0
    num_wrong: int = 0
    num_unreadable: int = 0
    sound_files: dict[bytes, list[int]] = field(default_factory=dict, repr=False)


def check_crashes(program: str, work: Path, *, drop: str = "") -> CrashReport:
    """Crash a program behind each of its calls and look at what is left.

    Args:
        program: one of PROGRAMS.
        work: an empty folder.
        drop: kinds of calls that are taken to have no effect: "S" shows that the check would
            notice a missing sync.
    """
    root, before, build = work / "root", work / "before", work / "build"
    root.mkdir()
    build.mkdir()
    _prepare(program, root)
    shutil.copytree(root, before)
    arguments = [str(Path(fake_runs.__file__)), program, str(root)]
    calls = record(arguments, root, build)
    report = CrashReport(num_calls=len(calls))
    for num_calls, lost, folder in crashes(calls, before, root, work / "after", ignored=drop):
        report.num_crashes += 1
        is_over = lost != "nothing" and num_calls == len(calls)
        if program == "adopt":
            _look_at_adopted(folder, report, allow_none=not is_over)
        elif program == "journal":
            acknowledged = _acknowledged(calls[:num_calls])
            _look_at_journal(folder, acknowledged, report)
        elif program == "shard":
            _look_at_shard(folder, report)
        else:
            _look_at_merge(folder, report, allow_old=not is_over)
    return report


def _prepare(program: str, root: Path) -> None:
    if program == "adopt":
        fake_runs.write_shard_of(root / "shard-00000.h5", range(4))
    elif program == "shard":
        for number in RUNS:
            fake_runs.write_journal(root / f"{number}.journal", number)
    elif program in fake_runs.VOLUME_SIZES:
        fake_runs.write_shard_of(root / "shard-00000.h5", range(2))
        # An older benchmark, of fewer runs, and cut into other volumes.
        fake_runs.main("merge" if program == "merge" else "merge into one volume", root)
        fake_runs.write_shard_of(root / "shard-00001.h5", range(2, 4))


def _acknowledged(calls: list[Call]) -> int:
    """Records whose append had returned: the journal's syncs but that of its first record."""
    num_syncs = sum(call.kind == "S" and call.path.endswith(".journal") for call in calls)
    return max(0, num_syncs - 1)


def _look_at_journal(folder: Path, acknowledged: int, report: CrashReport) -> None:
    path = folder / "run.journal"
    journal = read_journal(path) if path.exists() else None
    if journal is not None:
        _compare_journal(path, 3, report)
    num_records = 0 if journal is None else len(journal.epochs) + (journal.ended is not None)
    report.num_lost += max(0, acknowledged - num_records)


def _look_at_adopted(folder: Path, report: CrashReport, *, allow_none: bool) -> None:
    """The journal of each adopted run is whole, or not there."""
    for number in range(4):
        path, last = folder / f"{number}.journal", fake_runs.last_epoch(number)
        if not path.exists():
            report.num_lost += not allow_none
            continue
        journal = read_journal(path)
        if journal is None or (journal.ended is None) == (last < fake_runs.NUM_EPOCHS):
            report.num_unreadable += 1
        else:
            report.num_wrong += _compare_journal(path, number, report) != last + 1


def _compare_journal(path: Path, number: int, report: CrashReport) -> int:
    journal = read_journal(path)
    if journal is None:
        return 0
    for epoch in journal.epochs:
        report.num_wrong += epoch.metrics["valid_loss"] != 3.0 - epoch.epoch
    for kept in journal.moments:
        right = fake_runs.fake_frames(number, kept.moment)
        report.num_wrong += tuple(journal.read(kept[1:])) != right[1:]
    return len(journal.epochs)


def _look_at_shard(folder: Path, report: CrashReport) -> None:
    """Each run is in the shard or in its journal, whole."""
    shard = folder / "shard.h5"
    found = _compare_file(shard, report) if shard.exists() else []
    for number in RUNS:
        path = folder / f"{number}.journal"
        if not shard.exists():
            num_epochs = _compare_journal(path, number, report) if path.exists() else 0
            report.num_lost += fake_runs.last_epoch(number) + 1 - num_epochs
        elif number not in found:
            report.num_lost += fake_runs.last_epoch(number) + 1


def _look_at_merge(folder: Path, report: CrashReport, *, allow_old: bool) -> None:
    """The benchmark is the old one or the new one, whole; the shards are untouched."""
    found = _compare_file(folder / "dtb.h5", report)
    allowed = ([0, 1], [0, 1, 2, 3]) if allow_old else ([0, 1, 2, 3],)
    if found not in allowed:
        report.num_lost += 1
    for name in ("shard-00000.h5", "shard-00001.h5"):
        _compare_file(folder / name, report)


def _compare_file(path: Path, report: CrashReport) -> list[int]:
    """The runs of a file, each compared with what it should be; the same bytes are read once."""
    files = [path, *sorted(path.parent.glob("states-*.h5"))]
    data = b"".join(file.name.encode() + file.read_bytes() for file in files)
    if data not in report.sound_files:
        found = _read_file(path, report)
        if not found:
            return []
        report.sound_files[data] = found
    return report.sound_files[data]


def _read_file(path: Path, report: CrashReport) -> list[int]:
    try:
        if any(checked.error for checked in verify(path)):
            report.num_unreadable += 1
            return []
        with Benchmark(path) as benchmark:
            for run in benchmark:
                last = fake_runs.last_epoch(run.number)
                losses = [3.0 - epoch for epoch in range(last + 1)]
                right = run.curve("valid_loss").compressed().tolist() == losses
                right &= run.moments == tuple(
                    m for m in fake_runs.MOMENTS if m.epoch is None or m.epoch <= last
                )
                for moment in run.moments:
                    values = run.training_state(step=moment.step).values
                    expected = fake_runs.fake_state(run.number, moment.step)
                    right &= values.tobytes() == expected.tobytes()
                for epoch in run.momentum_epochs:
                    values = run.momentum(epoch=epoch)["bias"]
                    expected = fake_runs.fake_momentum(run.number, 5 * epoch)
                    right &= values.tobytes() == expected[20:].tobytes()
                report.num_wrong += not right
            return benchmark.numbers.tolist() if not report.num_wrong else []
    except Exception:  # noqa: BLE001 - whatever it is, the file could not be read
        report.num_unreadable += 1
        return []
