"""The long form of the fault suite: `make chaos` prints one table."""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos.crash_checks import PROGRAMS, check_crashes
from chaos.full_disk import fill_and_go_on
from chaos.kills import (
    SCENARIOS,
    kill_and_go_on,
    plan_branch,
    terminate_while_starting,
    uninterrupted,
)
from chaos.mutant_checks import (
    GOOD,
    MutantReport,
    check_damaged,
    check_hostile,
    check_replaced,
    make_files,
)

_HEADER = ("fault", "injected", "epochs lost", "wrong", "unreadable", "seconds", "notes")


def main() -> int:
    """Inject every fault; returns 0 when none of them did harm."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--mutants", type=int, default=2000, help="of each of two files")
    parser.add_argument("--repeat", type=int, default=3, help="times that each kill is done")
    given = parser.parse_args()
    print(" | ".join(_HEADER))
    harm = 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        for row in _rows(Path(name), given.mutants, given.repeat):
            print(" | ".join(map(str, row)), flush=True)
            harm += sum(row[2:5])
    print("no harm done" if not harm else f"HARM: {harm}")
    return 1 if harm else 0


Row = tuple[str, int, int, int, int, float, str]


def _rows(work: Path, num_mutants: int, repeat: int) -> Iterator[Row]:
    for program in PROGRAMS:
        begin, folder = time.monotonic(), work / program.replace(" ", "-")
        folder.mkdir()
        crash = check_crashes(program, folder)
        yield (
            f"crash at any system call of a {program}",
            crash.num_crashes,
            crash.num_lost,
            crash.num_wrong,
            crash.num_unreadable,
            round(time.monotonic() - begin, 1),
            f"{crash.num_calls} calls, each with and without what was not synced",
        )
    files = work / "files"
    files.mkdir()
    for kind, path in make_files(files).items():
        begin = time.monotonic()
        report = check_damaged(path, files, num_mutants, seed=num_mutants)
        yield _mutant_row(f"damaged {kind}", report, begin)
        begin = time.monotonic()
        yield _mutant_row(f"hostile {kind}", check_hostile(path, files), begin)
    begin = time.monotonic()
    yield _mutant_row("no plain file", check_replaced(files / "shard.h5", files), begin)
    begin, disk = time.monotonic(), work / "disk"
    disk.mkdir()
    how, num_full, full = fill_and_go_on(disk)
    seconds = round(time.monotonic() - begin, 1)
    notes = "; ".join(full.notes)
    lost, wrong, unreadable = full.num_lost, full.num_wrong, full.num_unreadable
    yield f"full disk, {how}", num_full, lost, wrong, unreadable, seconds, notes
    begin = time.monotonic()
    ends = [terminate_while_starting(work / f"start-{i}", 0.25 * i) for i in range(6 * repeat)]
    slowest = max(seconds for _, seconds in ends)
    yield (
        "SIGTERM while it starts",
        len(ends),
        0,
        0,
        sum(code != 75 or seconds > 30 for code, seconds in ends),
        round(time.monotonic() - begin, 1),
        f"exit codes {sorted({code for code, _ in ends})}, at most {slowest:.1f} s",
    )
    expected = uninterrupted(work / "plain")
    for scenario in SCENARIOS:
        folders = [work / f"{scenario}-{i}".replace(" ", "-") for i in range(repeat)]
        yield _kill_row(scenario, scenario, folders, expected)
    branches = [work / f"branch-{i}" for i in range(repeat + 1)]
    for branch in branches:
        plan_branch(work / "plain" / "dtb.h5", branch)
    scenario, expected = "kill -9 of every process", uninterrupted(branches[0])
    yield _kill_row(scenario, f"{scenario} of a branch", branches[1:], expected)


def _kill_row(scenario: str, name: str, folders: list[Path], expected: dict[Any, Any]) -> Row:
    begin = time.monotonic()
    reports = [kill_and_go_on(scenario, folder, expected) for folder in folders]
    resumed = sum(report.num_resumed for report in reports)
    after = [r.fewest_after_resume for r in reports if r.fewest_after_resume is not None]
    notes = [f"{resumed} runs resumed, {min(after, default=0)} epochs or more after it"]
    notes += sorted({note for report in reports for note in report.notes})
    return (
        name,
        len(folders),
        sum(report.num_lost for report in reports),
        sum(report.num_wrong for report in reports),
        sum(r.num_unreadable + (r.num_left > 0 and r.num_resumed == 0) for r in reports),
        round(time.monotonic() - begin, 1),
        "; ".join(notes),
    )


def _mutant_row(fault: str, report: MutantReport, begin: float) -> Row:
    good = ", ".join(f"{report.outcomes[outcome]} {outcome}" for outcome in GOOD)
    notes = [f"{good}; at most {report.peak_mib:.0f} MiB", *report.bad[:5]]
    wrong = report.outcomes["WRONG"]
    return (
        fault,
        sum(report.outcomes.values()),
        0,
        wrong,
        len(report.bad) - wrong,
        round(time.monotonic() - begin, 1),
        "; ".join(notes),
    )


if __name__ == "__main__":
    raise SystemExit(main())
