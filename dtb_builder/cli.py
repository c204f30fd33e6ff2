"""The command ``dtb``: reads the configuration with Hydra and hands plain values to the stages."""

import argparse
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtb_builder.dataset.source import located
from dtb_builder.errors import ConfigError, DTBError

if TYPE_CHECKING:
    from dtb_builder.stages.config import LaunchConfig
    from dtb_builder.stages.population import Population
    from dtb_builder.stages.run_folder import RunFolder
    from dtb_builder.stages.score_config import ScoreConfig, ScoreLaunch
    from dtb_builder.stages.score_sources import Source

__all__ = ["main"]

_DESCRIPTION = """\
Generate, publish and query trained DARTS architectures with their training states.

  dtb generate runs/quickstart experiment=quickstart    plan, train on Ray, continue after a stop
  dtb merge runs/quickstart                             make runs/quickstart/dtb.h5
  dtb query runs/quickstart/dtb.h5 --top 5 --by valid_accuracy --epoch -1

SETTING is a Hydra override: key=value as in recipe.num_epochs=4, or group=name as in
images=fashion_mnist. `dtb plan RUN_FOLDER --show` prints every key with its value.
"""

_EPILOG = """\
exit codes: 0 done; 1 done, but runs failed, work is left or damage was found; 2 the command, a
setting, a file or the machine is not what it must be; 75 told to stop (SIGTERM) and 130
interrupted: the same command goes on from there.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    # argparse cannot take settings before and after an option at once; the rest is taken here.
    given, rest = parser.parse_known_args(arguments)
    options = [text for text in rest if text.startswith("-") or not hasattr(given, "settings")]
    if options:
        parser.error(f"{given.name} takes no {options[0]!r}: see dtb {given.name} --help")
    if rest:
        given.settings += rest
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        return given.command(given)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe, such as head, has seen enough
        return 0
    except (DTBError, KeyError, OSError) as error:
        # A KeyError's text is the repr of its argument.
        text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
        notes = getattr(error, "__notes__", ())
        print("\n".join(["dtb: " + str(text), *notes]), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dtb: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except _Terminated:
        print("dtb: told to stop; the same command goes on from here", file=sys.stderr)
        return 75


class _Terminated(BaseException):
    """SIGTERM has come, as from Slurm before a time limit or from a cloud before a preemption."""


class _Sigterm:
    """Listens for SIGTERM, from the moment it is made.

    Attributes:
        raising: whether to raise `_Terminated` at once. Ray's compiled code cannot pass on an
            exception out of a signal handler; there the driver asks, at least once a second.
    """

    def __init__(self) -> None:
        self.raising = True
        self._came = False
        signal.signal(signal.SIGTERM, self._stop)

    def check(self) -> None:
        """Raise `_Terminated` if the signal has come."""
        if self._came:
            raise _Terminated

    def _stop(self, _signal: int, _frame: object) -> None:
        first, self._came = not self._came, True
        if self.raising and first:  # once is enough
            raise _Terminated


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dtb",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command, name=name)
        return sub

    def add_folder_command(
        name: str, command: Callable[[Any], int], text: str
    ) -> argparse.ArgumentParser:
        sub = add(name, command, text)
        sub.add_argument("run_folder", metavar="RUN_FOLDER", type=Path)
        sub.add_argument("settings", metavar="SETTING", nargs="*", help="key=value or group=name")
        return sub

    plan = add_folder_command("plan", _plan, "Choose the genotypes and print what they will cost.")
    plan.add_argument("--show", action="store_true", help="print the whole configuration instead")
    plan.add_argument(
        "--calibrate", action="store_true", help="train two epochs of three genotypes to know"
    )
    add_folder_command("generate", _generate, "Train what is left of a plan; plan it if need be.")
    add_folder_command("merge", _merge, "Consolidate the shards into RUN_FOLDER/dtb.h5.")
    status = add("status", _status, "Say how far a generation is.")
    status.add_argument("run_folder", metavar="RUN_FOLDER", type=Path)
    how = status.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="for programs")
    how.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        const=2.0,
        help="again every so many seconds, until every run has finished",
    )
    status.add_argument(
        "--check", action="store_true", help="exit with 1 unless every run finished"
    )
    info = add("info", _info, "Say what a benchmark holds and how it was made.")
    info.add_argument("file", metavar="FILE_OR_URL", type=located)
    info.add_argument("--json", action="store_true", help="the whole provenance, for programs")
    query = add("query", _query, "Print metrics of a benchmark's runs.")
    query.add_argument("file", metavar="FILE_OR_URL", type=located)
    which = query.add_mutually_exclusive_group()
    which.add_argument("--genotype", metavar="TEXT", help="only its runs, at every epoch")
    which.add_argument("--run", metavar="NUMBER", type=int, help="only this run, at every epoch")
    which.add_argument("--top", metavar="K", type=int, help="only the best K runs by --by")
    which.add_argument("--csv", action="store_true", help="every run and epoch, as CSV")
    query.add_argument(
        "--by", metavar="METRIC", help="what --top sorts by: high accuracy, low loss or time first"
    )
    query.add_argument("--epoch", metavar="E", type=int, help="the epoch shown; -1 is the last")
    export = add("export", _export, "Write every run and epoch as one table.")
    export.add_argument("file", metavar="FILE_OR_URL", type=located)
    export.add_argument("--parquet", metavar="TABLE", type=Path, help="for pandas, DuckDB, ...")
    export.add_argument("--csv", metavar="TABLE", type=Path, help="for everything else")
    verify = add(
        "verify",
        _verify,
        "Read every byte of a benchmark, shard or published folder; name the damaged.",
    )
    verify.add_argument("file", metavar="FILE_OR_FOLDER", type=_here)
    verify.add_argument("--deep", action="store_true", help="evaluate every stored state again")
    verify.add_argument("--root", metavar="FOLDER", type=Path, help="where the images are")
    report = add("report", _report, "Write one HTML page about a benchmark, for a browser.")
    report.add_argument("file", metavar="FILE", type=_here)
    report.add_argument("--into", metavar="FILE", type=Path, help="beside FILE, report.html")
    draw = add("draw", _draw, "Draw the two cells of a genotype.")
    draw.add_argument("genotype", metavar="GENOTYPE", help="its text, or a published one's name")
    draw.add_argument(
        "--into", metavar="FILE", type=Path, required=True, help="ends with .svg or .png"
    )
    publish = add("publish", _publish, "Make a folder for the Hugging Face Hub or Zenodo.")
    publish.add_argument("file", metavar="FILE", type=_here)
    publish.add_argument("--into", metavar="FOLDER", type=Path, required=True, help="a new folder")
    publish.add_argument("--name", required=True, help="of the data set")
    publish.add_argument("--author", action="append", required=True, help="may be given again")
    publish.add_argument("--licence", required=True, help="of the data, such as CC-BY-4.0")
    publish.add_argument("--url", required=True, help="where it will be found")
    where = publish.add_mutually_exclusive_group(required=True)
    where.add_argument("--dry-run", action="store_true", help="make the folder, upload nothing")
    where.add_argument("--repository", metavar="OWNER/NAME", help="of the Hub, to upload to")
    repair = add("repair", _repair, "Save the intact runs of a damaged file, or of all shards.")
    repair.add_argument("path", metavar="FILE_OR_RUN_FOLDER", type=_here)
    reproduce = add("reproduce", _reproduce, "Train a run again and compare it bit for bit.")
    reproduce.add_argument("file", metavar="FILE", type=_here)
    reproduce.add_argument("--run", metavar="NUMBER", type=int, required=True, help="which run")
    reproduce.add_argument("--root", metavar="FOLDER", type=Path, help="where the images are")
    score = add("score", _score, "Score every kept state of a benchmark; goes on after a stop.")
    score.add_argument("file", metavar="FILE", type=_here)
    score.add_argument("settings", metavar="SETTING", nargs="*", help="key=value or group=name")
    score.add_argument("--into", metavar="FILE", type=Path, help="beside FILE, scores.parquet")
    rank = add("rank", _rank, "Say how well each score orders a benchmark's networks, and when.")
    rank.add_argument("file", metavar="FILE", type=Path)
    rank.add_argument("settings", metavar="SETTING", nargs="*", help="with --benchmark: key=value")
    rank.add_argument(
        "--benchmark", metavar="TABLE", help="FILE is that of nasbench101 or nds; scores it first"
    )
    rank.add_argument("--scores", metavar="FILE", type=Path, help="beside FILE, scores.parquet")
    rank.add_argument(
        "--into", metavar="STEM", type=Path, help="beside FILE, rank: STEM.json, .html"
    )
    rank.add_argument(
        "--by", metavar="METRIC", default="test_accuracy", help="at the last epoch; test_accuracy"
    )
    rank.add_argument("--choose", action="store_true", help="a rule on one half, for the other")
    rank.add_argument("--splits", metavar="N", type=int, default=5, help="in halves, for --choose")
    rank.add_argument("--all", action="store_true", help="print every interval")
    rank.add_argument("--seed", type=int, default=0, help="of the bootstrap and the splits")
    rank.add_argument("--resamples", metavar="N", type=int, default=1000, help="of the bootstrap")
    add_folder_command(
        "search", _search, "Search the space by a rule within a budget, then train the winner."
    )
    return parser


def _here(text: str) -> Path:
    """A file that is here."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is elsewhere: download it first (info, query and export read a URL)"
        )
    return Path(text)


def _seconds(text: str) -> float:
    """The seconds that a person gave; argparse turns the ValueError into a message."""
    seconds = float(text)
    if not 0.1 <= seconds <= 86400:
        raise ValueError(f"expected 0.1 to 86400 seconds, got {text}")
    return seconds


# Commands. Each imports what it needs, so that a query starts without torch or Ray.


def _plan(given: argparse.Namespace) -> int:
    from dtb_builder.stages.estimate import estimate
    from dtb_builder.stages.monitor import byte_text
    from dtb_builder.stages.run_folder import RunFolder

    settings = _compose(given.settings)
    folder = RunFolder(given.run_folder)
    if given.show:
        import yaml

        if _is_own_config(folder, given.settings):
            settings |= yaml.safe_load(folder.config_file.read_text())
        print(yaml.safe_dump(settings, sort_keys=False), end="")
        return 0
    _ensure_planned(folder, given.settings, settings)
    config = folder.config
    if given.calibrate:
        from dtb_builder.stages.calibrate import calibrate

        cost, how = calibrate(folder), "from two epochs of three genotypes"
    else:
        cost, how = estimate(folder), "from a few steps: --calibrate is closer"
    print(f"run folder  {folder.path}")
    print(f"runs        {cost.num_runs:,} of {config.recipe.num_epochs} epochs")
    print(f"shards      {cost.num_shards:,} of up to {config.shard_size} runs")
    print(f"disk        about {byte_text(cost.num_bytes)}")
    print(f"time        about {cost.hours:.3g} hours of one worker, as timed on {cost.device} here")
    print(f"            {how}")
    if cost.device != config.compute.device:
        print(f"            this machine has no {config.compute.device}, which will be faster")
    return 0


def _generate(given: argparse.Namespace) -> int:
    sigterm = _Sigterm()
    from tqdm import tqdm

    from dtb_builder.stages.generate import Progress, RunFailed, generate
    from dtb_builder.stages.monitor import failed_lines
    from dtb_builder.stages.run_folder import RunFolder
    from dtb_builder.stages.status import status

    settings = _compose(given.settings)
    folder = RunFolder(given.run_folder)
    launch = _launch_config(settings)
    _ensure_planned(folder, given.settings, settings)
    before = status(folder, launch.cluster.shard_range)
    sigterm.raising = launch.cluster.engine == "serial"
    events = generate(folder, launch)
    if launch.cluster.engine == "ray":
        from dtb_builder.stages.ray_metrics import metered

        events = metered(events, folder, launch.cluster.shard_range)
    if launch.cluster.tensorboard:
        from dtb_builder.stages.tensorboard import curves_written

        events = curves_written(events, folder)
    next(events)
    sigterm.check()
    with tqdm(
        total=before.num_planned_epochs,
        initial=before.num_epochs,
        unit="epoch",
        desc=f"{before.num_runs} runs",
        mininterval=1,
    ) as bar:
        for event in events:
            sigterm.check()
            if isinstance(event, Progress):
                bar.update(max(0, event.num_epochs - bar.n))
            elif isinstance(event, RunFailed):
                fate = "given up" if event.given_up else "will be tried again"
                bar.write(f"run {event.run.number} failed, {fate}: {event.error}", file=sys.stderr)
    after = status(folder, launch.cluster.shard_range)
    print(
        f"{after.num_finished} of {after.num_runs} runs finished, "
        f"{after.num_closed_shards} of {after.num_shards} shards closed"
    )
    for line in failed_lines(after):
        print(line)
    return 0 if after.is_complete else 1


def _merge(given: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.merge import merge_folder
    from dtb_builder.stages.run_folder import RunFolder

    folder = RunFolder(given.run_folder)
    if data := [setting for setting in given.settings if not _is_launch_setting(setting)]:
        raise ConfigError(f"merge takes allow_missing and volume_size, not {data[0]!r}")
    launch = _launch_config(_compose(given.settings))
    with tqdm(unit="B", unit_scale=True, desc="merge", mininterval=1) as bar:
        for merged in merge_folder(folder, launch):
            bar.update(merged.num_bytes)
    with Benchmark(folder.benchmark_file) as benchmark:
        print(f"{folder.benchmark_file}: {len(benchmark)} runs of {benchmark.num_epochs} epochs")
        for failure in benchmark.failures:
            print(f"run {failure.number} failed {failure.attempts} times and is not in it")
    return 0


def _status(given: argparse.Namespace) -> int:
    from dtb_builder.stages.monitor import status_lines, watched
    from dtb_builder.stages.run_folder import RunFolder
    from dtb_builder.stages.status import status

    folder = RunFolder(given.run_folder)
    if given.watch is not None:
        *_, found = watched(folder, seconds=given.watch)
        return 1 if given.check and not found.is_complete else 0
    found = status(folder)
    if given.json:
        print(json.dumps(asdict(found) | {"is_complete": found.is_complete}, indent=1))
    else:
        print("\n".join(status_lines(found)))
    return 1 if given.check and not found.is_complete else 0


def _info(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark

    with Benchmark(given.file) as benchmark:
        provenance = benchmark.provenance
        if given.json:
            print(json.dumps(provenance, indent=1))
            return 0
        images, network = provenance["images"], provenance["network"]
        print(f"file        {benchmark.path}, schema {benchmark.schema_version}")
        print(f"runs        {len(benchmark)} of {benchmark.num_epochs} epochs")
        print(f"states      {benchmark.num_states}")
        print(f"genotypes   {provenance['config']['space']['kind']}")
        print(
            f"network     {network['layers']} cells of {network['channels']} channels, "
            f"auxiliary head {'on' if network['auxiliary'] else 'off'}"
        )
        print(f"images      {images['name']}, {images['num_classes']} classes, {images['shape']}")
        for name, split in provenance["splits"].items():
            print(f"{name:<12}{split['size']} of the {split['of']}")
        devices = sorted({environment["device_name"] for environment in benchmark.environments})
        print(f"devices     {', '.join(devices)}")
        for failure in benchmark.failures:
            print(f"failed      run {failure.number}, {failure.attempts} attempts")
    return 0


def _query(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.query import print_run, print_runs

    k: int | None = given.top
    by: str | None = given.by
    epoch: int | None = given.epoch
    genotype: str | None = given.genotype
    number: int | None = given.run
    if (k is None) != (by is None):
        raise ConfigError("--top and --by belong together: nothing is chosen for you")
    if k is not None and k < 1:
        raise ConfigError(f"--top must be at least 1, got {k}")
    every_epoch = given.csv or number is not None or genotype is not None
    if every_epoch and epoch is not None:
        raise ConfigError("--genotype, --run and --csv show every epoch: leave out --epoch")
    with Benchmark(given.file) as benchmark:
        if given.csv:
            benchmark.to_dataframe().to_csv(sys.stdout, index=False)
        elif number is not None:
            print_run(benchmark.run(number))
        elif genotype is not None:
            for run in benchmark.runs_of(genotype) or (benchmark[genotype],):
                print_run(run)
        elif epoch is None:
            raise ConfigError("say which epoch: --epoch -1 is the last one")
        elif k is None or by is None:
            print_runs(benchmark, epoch=benchmark.epoch_row(epoch))
        else:
            try:
                best = benchmark.top(k, by=by, epoch=epoch)
            except ValueError as error:
                raise ConfigError(f"--by {by}: {error}") from error
            print_runs(best, epoch=benchmark.epoch_row(epoch))
    return 0


def _export(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.monitor import byte_text

    try:
        from dtb_builder.dataset.export import export_csv, export_parquet
    except ImportError as error:
        raise ConfigError(f"{error}: pip install 'darts-training-bench[export]'") from error

    targets = [(given.parquet, export_parquet), (given.csv, export_csv)]
    if not any(path for path, _ in targets):
        raise ConfigError("say what to write: --parquet TABLE, --csv TABLE or both")
    with Benchmark(given.file) as benchmark:
        for path, export in targets:
            if path is not None:
                export(benchmark, path)
                num_rows = len(benchmark) * (benchmark.num_epochs + 1)
                print(f"{path}: {num_rows} rows, {byte_text(path.stat().st_size)}")
    return 0


def _report(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.report import write_report

    into: Path = given.into or given.file.with_name("report.html")
    scores: Path = given.file.with_name("scores.parquet")
    with Benchmark(given.file) as benchmark:
        write_report(benchmark, into, scores if scores.exists() else None)
    print(into)
    return 0


def _draw(given: argparse.Namespace) -> int:
    from dtb_builder.space.listing import find_genotype
    from dtb_builder.stages.draw import draw

    draw(find_genotype(given.genotype), given.into)
    print(given.into)
    return 0


def _publish(given: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.monitor import byte_text
    from dtb_builder.stages.publish import Publication, make_folder, upload

    about = Publication(
        name=given.name,
        authors=tuple(given.author),
        licence=given.licence,
        url=given.url,
        released=datetime.now(UTC).date(),
    )
    with Benchmark(given.file) as benchmark:
        files = make_folder(benchmark, about, given.into)
    for file in files:
        print(f"{byte_text(file.stat().st_size):>10}  {file.relative_to(given.into)}")
    if given.dry_run:
        print(f"{given.into}: {len(files)} files, nothing uploaded")
    else:
        print(upload(given.into, given.repository, os.environ.get("HF_TOKEN")))
    return 0


def _verify(given: argparse.Namespace) -> int:
    from dtb_builder.dataset.manifest import verify_manifest
    from dtb_builder.dataset.verify import verify

    if given.file.is_dir() and given.deep:
        raise ConfigError(f"--deep is for a file, {given.file} is a folder")
    num_records = num_damaged = 0
    for checked in verify_manifest(given.file) if given.file.is_dir() else verify(given.file):
        num_records += 1
        if checked.error is not None:
            num_damaged += 1
            print(f"damaged: {checked.record}: {checked.error}")
    print(f"{given.file}: {num_records} records read, {num_damaged} damaged")
    if num_damaged == 0 and given.deep:
        num_damaged = _verify_deep(given.file, given.root)
    return 1 if num_damaged else 0


def _verify_deep(file: Path, root: Path | None) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.reproduce import reevaluate

    num_states = num_wrong = 0
    with Benchmark(file) as benchmark:
        for compared in reevaluate(benchmark, root=root):
            num_states += 1
            if compared.differences:
                num_wrong += 1
                found = "; ".join(compared.differences)
                print(f"wrong: run {compared.number} epoch {compared.epoch}: {found}")
    print(f"{file}: {num_states} states evaluated again, {num_wrong} wrong")
    return num_wrong


def _repair(given: argparse.Namespace) -> int:
    from dtb_builder.stages.repair import repair_file, repair_folder
    from dtb_builder.stages.run_folder import RunFolder

    if given.path.is_dir():
        repairs = list(repair_folder(RunFolder(given.path)))
    else:
        repairs = [repair for repair in (repair_file(given.path),) if repair is not None]
    if not repairs:
        print(f"{given.path}: nothing is damaged")
    for repair in repairs:
        print(f"{repair.path}: {repair.num_saved} runs saved to {repair.rebuilt}")
        for lost in repair.lost:
            which = "a run" if lost.number is None else f"run {lost.number}"
            print(f"  {which} is lost: {lost.reason}")
        if repair.lost_failures is not None:
            print(f"  the list of failed runs is lost: {repair.lost_failures}")
    if repairs and given.path.is_dir():
        print(f"dtb generate {given.path} trains what is lost and makes the shards whole")
    return 1 if any(repair.lost or repair.lost_failures for repair in repairs) else 0


def _reproduce(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.reproduce import environment_differences, reproduce

    same = True
    with Benchmark(given.file) as benchmark:
        for compared in reproduce(benchmark, given.run, root=given.root):
            print(f"epoch {compared.epoch}: {'; '.join(compared.differences) or 'the same bits'}")
            same &= not compared.differences
        print(f"run {given.run} {'is' if same else 'is NOT'} reproduced bit for bit, times apart")
        if not same:
            run = benchmark.run(given.run)
            found = environment_differences(run, -1)
            print(
                "\n".join(("this machine differs in", *found)) if found else "on an equal machine"
            )
    return 0 if same else 1


def _score(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.config import parse
    from dtb_builder.stages.score_config import SCORE_LAUNCH_KEYS, ScoreConfig, ScoreLaunch
    from dtb_builder.stages.score_sources import BenchmarkSource

    composed = _compose(given.settings, "score")
    launch = parse(ScoreLaunch, {key: composed.pop(key) for key in SCORE_LAUNCH_KEYS})
    config = parse(ScoreConfig, composed)
    into: Path = (given.into or given.file.with_name("scores.parquet")).absolute()
    with Benchmark(given.file) as benchmark:
        sha256 = benchmark.provenance["images"]["sha256"]
    source = BenchmarkSource(given.file.absolute())
    num_failed = _score_source(source, into, config, launch, sha256=sha256)
    return 1 if num_failed else 0


def _score_source(
    source: "Source",
    into: Path,
    config: "ScoreConfig",
    launch: "ScoreLaunch",
    *,
    sha256: str | None,
) -> int:
    """Score a source with a progress bar; how many states lack a score."""
    sigterm = _Sigterm()
    from tqdm import tqdm

    from dtb_builder.stages.score import score

    sigterm.raising = launch.cluster.engine == "serial"
    events = score(source, into, config, launch, images_sha256=sha256)
    at = next(events)
    with tqdm(total=at.num_wanted, initial=at.num_states, unit="state", mininterval=1) as bar:
        for at in events:
            sigterm.check()
            bar.update(max(0, at.num_states - bar.n))
            if at.message is not None:
                bar.write(at.message, file=sys.stderr)
    print(f"{into}: {at.num_states} of {at.num_wanted} states scored")
    if at.num_failed:
        print(
            f"{at.num_failed} states lack a score, see the column errors; retry=failed tries again"
        )
    return at.num_failed


def _rank(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.population import populations_of
    from dtb_builder.stages.rank import rank
    from dtb_builder.stages.rank_choice import choose_rules
    from dtb_builder.stages.rank_report import (
        print_choices,
        print_ranking,
        write_plot,
        write_ranking,
    )
    from dtb_builder.stages.score_table import read_scores

    if given.seed < 0 or given.resamples < 1 or given.splits < 1:
        raise ConfigError("--seed must be at least 0, --resamples and --splits at least 1")
    if given.benchmark is not None:
        populations, about = _table_populations(given)
    elif given.settings:
        raise ConfigError(f"without --benchmark, rank takes no {given.settings[0]!r}")
    else:
        table = read_scores(given.scores or given.file.with_name("scores.parquet"))
        with Benchmark(given.file) as benchmark:
            populations = populations_of(benchmark, table, accuracy=given.by)
        about = dict(table.about)
    ranking = rank(populations, seed=given.seed, num_resamples=given.resamples)
    print(f"to {given.by} at the end; intervals of 95 %, {given.resamples} resamples")
    print_ranking(ranking, every=given.all)
    choices = [
        choice
        for population in (populations if given.choose else ())
        for choice in choose_rules(
            population,
            seed=given.seed,
            num_splits=given.splits,
            num_resamples=given.resamples,
        )
    ]
    if choices:
        print_choices(choices)
    stem: Path = given.into or given.file.with_name("rank")
    about |= {"by": given.by, "seed": given.seed, "resamples": given.resamples}
    write_ranking(stem.with_name(f"{stem.name}.json"), ranking, choices, about)
    write_plot(
        stem.with_name(f"{stem.name}.html"),
        ranking,
        title=f"Scores of {len(populations[0].accuracies)} networks, by {given.by} at the end",
    )
    print(f"written: {stem}.json, {stem}.html")
    return 0


def _table_populations(given: argparse.Namespace) -> tuple[list["Population"], dict[str, Any]]:
    """Networks of a table that others published, scored at their initialisation."""
    from dtb_builder.stages.config import parse
    from dtb_builder.stages.score_config import SCORE_LAUNCH_KEYS, ScoreConfig, ScoreLaunch
    from dtb_builder.stages.score_table import read_scores
    from dtb_builder.stages.table_source import (
        TableConfig,
        make_source,
        read_table,
        table_population,
    )

    if given.by != "test_accuracy":
        raise ConfigError(f"a table's networks have a test_accuracy only, got --by {given.by}")
    composed = _compose(given.settings, "table")
    launch = parse(ScoreLaunch, {key: composed.pop(key) for key in SCORE_LAUNCH_KEYS})
    names = TableConfig.__dataclass_fields__
    config = parse(TableConfig, {key: composed.pop(key) for key in names})
    digest, networks, num_outside = read_table(given.benchmark, given.file, config)
    print(f"{given.file}: {len(networks)} networks drawn, {num_outside} outside the space")
    into: Path = (given.scores or given.file.with_name("scores.parquet")).absolute()
    source = make_source(given.benchmark, digest, networks, config, launch.images_root)
    _score_source(source, into, parse(ScoreConfig, composed), launch, sha256=None)
    table = read_scores(into)
    return [table_population(source, table)], dict(table.about)


def _search(given: argparse.Namespace) -> int:
    sigterm = _Sigterm()
    from tqdm import tqdm

    from dtb_builder.stages.config import ClusterConfig, parse
    from dtb_builder.stages.search import Found, SearchFolder, search
    from dtb_builder.stages.search_config import SearchConfig
    from dtb_builder.stages.winner import train_winner, winners_run

    composed = _compose(given.settings, "search")
    cluster = parse(ClusterConfig, composed.pop("cluster"))
    config = parse(SearchConfig, composed)
    folder = SearchFolder(given.run_folder.absolute())
    sigterm.raising = cluster.engine == "serial"
    found: Found | None = None
    with tqdm(total=config.num_candidates, unit="candidate", mininterval=1) as bar:
        for at in search(folder, config, cluster):
            sigterm.check()
            bar.update(max(0, at.num_candidates - bar.n))
            found = at if isinstance(at, Found) else None
    assert found is not None
    when = f"epoch {found.rule.epoch}" if found.rule.step is None else f"step {found.rule.step}"
    print(f"rule      {found.rule.score} at {when}")
    print(
        f"tried     {found.num_candidates} candidates, {found.steps} training steps, "
        f"{found.seconds:.0f} s of work"
    )
    print(f"winner    candidate {found.candidate.index}, score {found.score:.6g}")
    print(f"          {found.candidate.genotype}")
    num_epochs = config.recipe.num_epochs
    with tqdm(total=num_epochs + 1, unit="epoch", desc="winner", mininterval=1) as bar:
        for progress in train_winner(folder, config, cluster):
            sigterm.check()
            bar.update(max(0, progress.num_epochs - bar.n))
    run = winners_run(folder)
    for name in ("valid_accuracy", "test_accuracy"):
        print(f"{name:<15}{run.metric(name, epoch=-1):.4f} after {num_epochs} epochs")
    return 0


# Configuration.


def _compose(settings: Sequence[str], root: str = "config") -> dict[str, Any]:
    """A whole configuration as plain values, that of conf/config.yaml or of another root.

    Raises:
        ConfigError: a setting is unknown or cannot be read.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_module("dtb_builder.conf", version_base="1.3"):
            composed = compose(root, overrides=list(settings))
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        # What follows advises Hydra's own ways to add keys and folders, which dtb does not take.
        reason = re.split(r"\n\s*(?:To append|Config search path|full_key)", str(error))[0].strip()
        if isinstance(error, OverrideParseException):
            reason += "\na value with = , ~ or a space wants quotes: 'images.root=\"/data/a=b\"'"
        hint = (
            "dtb plan RUN_FOLDER --show prints" if root == "config" else f"conf/{root}.yaml lists"
        )
        raise ConfigError(f"{reason}\n{hint} every setting") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _is_launch_setting(setting: str) -> bool:
    from dtb_builder.stages.config import LAUNCH_KEYS

    return setting.partition("=")[0].lstrip("+~").partition(".")[0] in LAUNCH_KEYS


def _is_own_config(folder: "RunFolder", given: Sequence[str]) -> bool:
    """Whether the folder is planned, and no setting of the data was given."""
    return folder.is_planned and all(_is_launch_setting(setting) for setting in given)


def _ensure_planned(folder: "RunFolder", given: Sequence[str], composed: Mapping[str, Any]) -> None:
    """Plan a folder; a planned one is checked against the settings of the data that were given."""
    from dtb_builder.stages.config import LAUNCH_KEYS, Config, parse
    from dtb_builder.stages.plan import plan

    if not _is_own_config(folder, given):
        data = {key: value for key, value in composed.items() if key not in LAUNCH_KEYS}
        plan(folder, parse(Config, data))


def _launch_config(composed: dict[str, Any]) -> "LaunchConfig":
    from dtb_builder.stages.config import LAUNCH_KEYS, LaunchConfig, parse

    return parse(LaunchConfig, {key: composed[key] for key in LAUNCH_KEYS})


if __name__ == "__main__":
    sys.exit(main())
