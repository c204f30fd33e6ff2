"""Commands that find and repair damage, and that train a run again to compare it."""

import argparse
from pathlib import Path
from typing import Any

from dtb_builder.commands.adding import (
    add_command,
    benchmark,
    benchmark_in,
    here,
    named,
    target,
)
from dtb_builder.errors import ConfigError
from dtb_builder.shown import shown, shown_lines

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add them to the command line."""
    verify = add_command(
        commands,
        "verify",
        _verify,
        "Check every checksum of a benchmark, shard or published folder.",
        "runs/quickstart",
    )
    verify.add_argument("file", metavar="FILE_OR_FOLDER", type=here)
    verify.add_argument("--deep", action="store_true", help="evaluate each epoch's state again")
    verify.add_argument("--root", metavar="FOLDER", type=named, help="where the images are")
    repair = add_command(
        commands,
        "repair",
        _repair,
        "Save the intact runs of a damaged file, or of all shards.",
        "runs/quickstart",
    )
    repair.add_argument("path", metavar="FILE_OR_RUN_FOLDER", type=here)
    repair.add_argument(
        "--without-volumes", action="store_true", help="continue even if states files are lost"
    )
    reproduce = add_command(
        commands,
        "reproduce",
        _reproduce,
        "Train a run again and compare it bit for bit.",
        "runs/quickstart --run 3",
    )
    reproduce.add_argument("file", metavar="FILE_OR_FOLDER", type=benchmark)
    reproduce.add_argument("--run", metavar="NUMBER", type=int, required=True, help="which run")
    reproduce.add_argument("--root", metavar="FOLDER", type=named, help="where the images are")
    replay = add_command(
        commands,
        "replay",
        _replay,
        "Make a state that was not stored, by training up to it again.",
        "runs/quickstart --run 3 --epoch 2 --into state.pt",
    )
    replay.add_argument("file", metavar="FILE_OR_FOLDER", type=benchmark)
    replay.add_argument("--run", metavar="NUMBER", type=int, required=True, help="which run")
    replay.add_argument("--epoch", metavar="E", type=int, required=True, help="-1 is the last")
    replay.add_argument(
        "--into", metavar="STATE", type=target, help="ends with .pt or .safetensors"
    )
    replay.add_argument("--root", metavar="FOLDER", type=named, help="where the images are")


def _verify(given: argparse.Namespace) -> int:
    from dtb_builder.dataset.manifest import MANIFEST, verify_manifest
    from dtb_builder.dataset.verify import verify

    published = (given.file / MANIFEST).exists()
    if published and given.deep:
        raise ConfigError(f"--deep is for a file, {given.file} is a published folder")
    if not published:
        given.file = benchmark_in(given.file)
    num_records = num_damaged = 0
    for checked in verify_manifest(given.file) if published else verify(given.file):
        num_records += 1
        if checked.error is not None:
            num_damaged += 1
            print(shown(f"damaged: {checked.record}: {checked.error}"))
    print(f"{given.file}: {num_records} records read, {num_damaged} damaged")
    if num_damaged == 0 and given.deep:
        num_damaged = _verify_deep(given.file, given.root)
    return 1 if num_damaged else 0


def _verify_deep(file: Path, root: Path | None) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.generation.reproduce import reevaluate

    num_states = num_wrong = 0
    with Benchmark(file) as benchmark:
        num_kept = sum(len(run.moments) for run in benchmark)
        for recomputed in reevaluate(benchmark, root=root):
            num_states += 1
            if recomputed.mismatches:
                num_wrong += 1
                text = "; ".join(recomputed.mismatches)
                print(shown(f"wrong: run {recomputed.number} epoch {recomputed.epoch}: {text}"))
    print(f"{file}: {num_states} states evaluated again, {num_wrong} wrong")
    if num_kept > num_states:
        print(f"{num_kept - num_states} states were not evaluated: there is nothing to compare")
    return num_wrong


def _repair(given: argparse.Namespace) -> int:
    from dtb_builder.stages.generation.repair import (
        Repair,
        SetAside,
        Unmarked,
        repair_file,
        repair_folder,
    )
    from dtb_builder.stages.generation.run_folder import RunFolder

    if given.path.is_dir():
        repairs = list(repair_folder(RunFolder(given.path)))
    else:
        repaired = repair_file(given.path, without_volumes=given.without_volumes)
        repairs = [] if repaired is None else [repaired]
    if not repairs:
        print(f"{given.path}: nothing is damaged")
    for repair in repairs:
        if isinstance(repair, Unmarked):
            print(f"{repair.path}: was marked as open for writing; {repair.copy} is not")
            continue
        if isinstance(repair, SetAside):
            print(shown(f"{repair.path}: {repair.reason}; set aside as {repair.aside}"))
            continue
        print(f"{repair.path}: {repair.num_saved} runs saved to {repair.rebuilt}")
        for lost in repair.lost:
            which = "a run" if lost.number is None else f"run {lost.number}"
            print(f"  {which} is lost: {shown(lost.reason)}")
        if repair.lost_failures is not None:
            print(f"  the list of failed runs is lost: {shown(repair.lost_failures)}")
    if repairs and given.path.is_dir():
        print(f"dtb generate {given.path} trains what is lost and makes the shards whole")
    losses = (each for each in repairs if isinstance(each, Repair))
    return 1 if any(repair.lost or repair.lost_failures for repair in losses) else 0


def _reproduce(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.generation.reproduce import environment_changes, reproduce

    same = True
    with Benchmark(given.file) as benchmark:
        for recomputed in reproduce(benchmark, given.run, root=given.root):
            found = "; ".join(recomputed.mismatches) or "the same bits"
            print(shown(f"epoch {recomputed.epoch}: {found}"))
            same &= not recomputed.mismatches
        print(f"run {given.run} {'is' if same else 'is NOT'} reproduced bit for bit, times apart")
        if not same:
            run = benchmark.run(given.run)
            changes = [shown(change) for change in environment_changes(run, -1)]
            text = "\n".join(("this machine differs in", *changes))
            print(text if changes else "on an equal machine")
    return 0 if same else 1


def _replay(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.dataset.replay import replay
    from dtb_builder.dataset.weights import check_weights_name

    if given.into is not None:
        try:
            check_weights_name(given.into)
        except ValueError as error:
            raise ConfigError(f"--into: {error}") from error
    with Benchmark(given.file) as benchmark:
        replayed = replay(benchmark.run(given.run), epoch=given.epoch, root=given.root)
    print(shown_lines(replayed.verdict))
    print(f"{replayed.seconds:.3g} seconds")
    if given.into is not None:
        replayed.export(given.into)
        print(given.into)
    return 0 if replayed.is_same else 1
