"""Commands that make a benchmark (plan, generate, merge) and show its progress (status)."""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dtb_builder.commands.adding import (
    add_command,
    add_settings,
    benchmark,
    here,
    named,
    numbers,
    run_folder,
)
from dtb_builder.commands.composing import (
    compose,
    ensure_planned,
    given_settings,
    is_launch_setting,
    launch_config,
    wanted_config,
)
from dtb_builder.commands.progress import WITH_POSTFIX, begun, progress
from dtb_builder.commands.signals import Sigterm
from dtb_builder.errors import ConfigError
from dtb_builder.shown import shown

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add them to the command line."""
    plan = add_command(
        commands,
        "plan",
        _plan,
        "Choose the genotypes and print what they will cost.",
        "runs/quickstart experiment=quickstart\nruns/quickstart recipe.num_epochs=9 --show",
    )
    plan.add_argument(
        "--show", action="store_true", help="check the settings and print all of them, plan nothing"
    )
    plan.add_argument(
        "--calibrate",
        action="store_true",
        help="train two epochs of three genotypes, for a closer estimate",
    )
    branch = add_command(
        commands,
        "branch",
        _branch,
        "Plan runs that continue from stored states of other runs.",
        "runs/quickstart runs/branch --from 2 recipe.learning_rate=0.01",
    )
    branch.add_argument("file", metavar="FILE_OR_FOLDER", type=benchmark)
    branch.add_argument("run_folder", metavar="NEW_FOLDER", type=run_folder)
    branch.add_argument(
        "--runs", metavar="FIRST-LAST", help="their numbers, such as 0-9 or 0,4; by default all"
    )
    branch.add_argument(
        "--from", dest="epoch", metavar="EPOCH", type=int, required=True, help="after which epoch"
    )
    add_settings(branch, "config", "of recipe, order_seeds, states or shard_size")
    generate = add_command(
        commands,
        "generate",
        _generate,
        "Train the unfinished runs of a plan; plan first if the folder is new.",
        "runs/quickstart experiment=quickstart\nruns/quickstart retry=failed cluster.num_cpus=2",
    )
    merge = add_command(
        commands,
        "merge",
        _merge,
        "Merge the shards into RUN_FOLDER/dtb.h5.",
        "runs/quickstart\nruns/quickstart allow_missing=true",
    )
    for command, settings in (
        (plan, "such as images=fashion_mnist or recipe.num_epochs=9"),
        (generate, "those of dtb plan; or cluster=auto, retry=failed"),
        (merge, "allow_missing=true, or volume_size=BYTES"),
    ):
        command.add_argument("run_folder", metavar="RUN_FOLDER", type=run_folder)
        add_settings(command, "config", settings)
    for command, help_text in (
        (plan, "count the runs that these run folders or benchmarks have trained already"),
        (generate, "take over the runs that these run folders or benchmarks have trained already"),
    ):
        command.add_argument("--adopt", metavar="OLD", nargs="+", default=[], help=help_text)
    generate.add_argument(
        "--widen",
        metavar="OLD",
        nargs="+",
        default=[],
        help="train the runs of these again to keep more states; checks each against the old one",
    )
    status = add_command(
        commands,
        "status",
        _status,
        "Show the progress of a generation.",
        "runs/quickstart\nruns/quickstart --watch",
    )
    status.add_argument("run_folder", metavar="RUN_FOLDER", type=named)
    how = status.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="for programs")
    how.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=2.0,
        help="repeat every so many seconds, until the generation has ended",
    )
    status.add_argument(
        "--check", action="store_true", help="exit with 1 unless every run finished"
    )


def _seconds(text: str) -> float:
    """Seconds from the command line; argparse turns the ValueError into a message."""
    seconds = float(text)
    if not 0.1 <= seconds <= 86400:
        raise ValueError(f"expected 0.1 to 86400 seconds, got {text}")
    return seconds


def _studies(given: argparse.Namespace, listed: list[str]) -> list[Path]:
    """The studies that an option lists; settings that follow them are settings."""
    given.settings += [word for word in listed if "=" in word and not Path(word).exists()]
    try:
        return [here(word) for word in listed if word not in given.settings]
    except argparse.ArgumentTypeError as error:
        raise ConfigError(str(error)) from error


def _plan(given: argparse.Namespace) -> int:
    Sigterm()  # so that a stopped calibration removes its folder
    adopting = _studies(given, given.adopt)
    from dtb_builder.stages.generation.adopt import num_known
    from dtb_builder.stages.generation.run_folder import RunFolder
    from dtb_builder.stages.work.byte_text import byte_text

    settings = compose(given.settings)
    folder = RunFolder(given.run_folder)
    price = launch_config(settings).cost.per_gpu_hour
    if given.show:
        import yaml

        from dtb_builder.stages.generation.plan import check_names
        from dtb_builder.stages.settings.plain import plain

        config = wanted_config(folder, given.settings, settings)
        check_names(config)
        print(yaml.safe_dump(settings | plain(config), sort_keys=False), end="")
        return 0
    ensure_planned(folder, given.settings, settings, adopting=adopting)
    from dtb_builder.stages.generation.estimate import estimate, evaluation_hint

    config = folder.config
    if price is not None and config.compute.device != "cuda":
        raise ConfigError(
            f"cost.per_gpu_hour: {folder.path} trains on the {config.compute.device}, not on GPUs"
        )
    if given.calibrate:
        from dtb_builder.stages.generation.calibrate import calibrated, timings

        timed = []
        for each in timings(folder):
            print(
                f"run {each.number}: {each.training:.3g} s of training, {each.evaluation:.3g} s of "
                f"evaluation, {each.storing:.3g} s of storing an epoch",
                flush=True,
            )
            timed.append(each)
        cost, how = calibrated(folder, timed), "from two epochs of three genotypes"
        folder.write_calibration(cost.run.total)
    else:
        cost, how = estimate(folder), "from a few steps: --calibrate is closer"
    print(f"run folder  {folder.path}")
    print(f"runs        {cost.num_runs:,} of {config.recipe.num_epochs} epochs")
    if adopting:
        num_adopted = num_known(folder, adopting)
        left = cost.num_runs - num_adopted
        print(f"adopted     {num_adopted:,} runs need no training, {left:,} do")
        cost = replace(cost, num_runs=left)
    print(f"shards      {cost.num_shards:,} of up to {config.shard_size} runs")
    print(f"disk        about {byte_text(cost.num_bytes)}")
    print(f"time        about {cost.hours:.3g} hours of one worker, as timed on {cost.device} here")
    print(f"            {how}")
    run = cost.run
    print(
        f"a run       {run.training:.3g} s of training, {run.evaluation:.3g} s of evaluation, "
        f"{run.storing:.3g} s of storing"
    )
    if hint := evaluation_hint(cost, config):
        print(f"            {hint}")
    if cost.device != config.compute.device:
        print(f"            this machine has no {config.compute.device}, which will be faster")
    if price is not None:
        about = "about" if cost.device == "cuda" else "less than"
        print(f"price       {about} {price * cost.hours:,.2f}, at {price:g} an hour of a GPU")
    return 0


def _branch(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.generation.branch import branch
    from dtb_builder.stages.generation.run_folder import RunFolder

    changed = given_settings(given.settings)
    folder = RunFolder(given.run_folder)
    with Benchmark(given.file) as benchmark:
        runs = benchmark.numbers.tolist() if given.runs is None else numbers(given.runs)
        branch(benchmark, folder, runs, epoch=given.epoch, changed=changed)
    num_epochs = folder.config.recipe.num_epochs
    print(
        f"{folder.path}: {folder.num_runs} runs, planned from epoch {folder.config.first_epoch} "
        f"to {num_epochs}; dtb generate {folder.path} trains them"
    )
    return 0


def _generate(given: argparse.Namespace) -> int:
    sigterm = Sigterm()
    adopting, widening = _studies(given, given.adopt), _studies(given, given.widen)
    from dtb_builder.stages.generation.adopt import num_known
    from dtb_builder.stages.generation.driver import (
        Progress,
        RunDamaged,
        RunFailed,
        RunFinished,
        RunPostponed,
        generate,
    )
    from dtb_builder.stages.generation.monitor import Forecast, failed_lines
    from dtb_builder.stages.generation.run_folder import RunFolder
    from dtb_builder.stages.generation.status import status

    settings = compose(given.settings)
    folder = RunFolder(given.run_folder)
    launch = launch_config(settings)
    ensure_planned(folder, given.settings, settings, adopting=adopting, widening=widening)
    if widening:
        known = num_known(folder, widening)
        print(f"{known} runs are known: each of their epochs is held against what it was")
    if adopting:
        _adopt(folder, adopting, launch, sigterm)
    before = status(folder, launch.cluster.shard_range)
    events = generate(folder, launch, widening=widening)
    if launch.cluster.engine == "ray":
        from dtb_builder.stages.generation.ray_metrics import metered

        events = metered(events, folder, launch.cluster.shard_range)
    if launch.cluster.tensorboard:
        from dtb_builder.stages.generation.tensorboard import curves_written

        events = curves_written(events, folder)
    sigterm.raising = launch.cluster.engine == "serial"
    next(events)
    sigterm.check()
    with progress(
        total=before.num_planned_epochs,
        initial=before.num_epochs,
        unit="epoch",
        desc=f"{before.num_runs} runs",
        bar_format=WITH_POSTFIX,
    ) as bar:
        forecast = Forecast(folder, launch.cluster.shard_range)
        for event in events:
            sigterm.check()
            if isinstance(event, Progress):
                is_done = event.num_epochs == before.num_planned_epochs
                left = "" if is_done else forecast.text(event.num_epochs)
                bar.set_postfix_str(left, refresh=False)
                bar.update(max(0, event.num_epochs - bar.n))
            elif isinstance(event, RunFinished) and event.diverged is not None:
                said = f"run {event.run.number} diverged: {event.diverged}"
                bar.write(shown(said), file=sys.stderr)
            elif isinstance(event, RunFailed):
                fate = "given up" if event.given_up else "will be tried again"
                said = f"run {event.run.number} failed, {fate}: {event.error}"
                bar.write(shown(said), file=sys.stderr)
            elif isinstance(event, RunDamaged):
                said = f"run {event.run.number}: {event.message}"
                bar.write(shown(said), file=sys.stderr)
            elif isinstance(event, RunPostponed):
                waits = f"run {event.run.number} will be started again: {event.reason}"
                bar.write(shown(waits), file=sys.stderr)
    after = status(folder, launch.cluster.shard_range)
    print(
        f"{after.num_finished} of {after.num_runs} runs finished, "
        f"{after.num_closed_shards} of {after.num_shards} shards closed"
    )
    for line in failed_lines(after):
        print(line)
    return 0 if after.is_complete else 1


def _adopt(folder: Any, adopting: list[Path], launch: Any, sigterm: Sigterm) -> None:
    """Take over the runs of other studies, and say how many there were."""
    from dtb_builder.stages.generation.adopt import adopt

    num_adopted = 0
    with progress(unit="run", desc="adopt") as bar:
        for _ in adopt(folder, adopting, launch.cluster.shard_range):
            num_adopted += 1
            bar.update(1)
            sigterm.check()
    print(f"{num_adopted} runs adopted")


def _merge(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.generation.merge import merge_folder
    from dtb_builder.stages.generation.run_folder import RunFolder

    folder = RunFolder(given.run_folder)
    if data := [setting for setting in given.settings if not is_launch_setting(setting)]:
        several = "" if "=" in data[0] else "; dtb unite makes one benchmark of several"
        raise ConfigError(f"merge takes allow_missing and volume_size, not {data[0]!r}{several}")
    launch = launch_config(compose(given.settings))
    merging = begun(merge_folder(folder, launch))
    with progress(unit="B", unit_scale=True, desc="merge") as bar:
        for merged in merging:
            bar.update(merged.num_bytes)
    with Benchmark(folder.benchmark_file) as benchmark:
        print(f"{folder.benchmark_file}: {len(benchmark)} runs of {benchmark.num_epochs} epochs")
        for failure in benchmark.failures:
            print(f"run {failure.number} failed {failure.attempts} times and is not in it")
    return 0


def _status(given: argparse.Namespace) -> int:
    from dtb_builder.stages.generation.monitor import status_lines, watched
    from dtb_builder.stages.generation.run_folder import RunFolder
    from dtb_builder.stages.generation.status import status

    folder = RunFolder(given.run_folder)
    if given.watch is not None:
        *_, last = watched(folder, seconds=given.watch)
        return 0 if last.is_complete else 1
    now = status(folder)
    if given.json:
        print(json.dumps(asdict(now) | {"is_complete": now.is_complete}, indent=1))
    else:
        print("\n".join(status_lines(now)))
    return 1 if given.check and not now.is_complete else 0
