"""Commands that show a benchmark, export it or publish it."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from dtb_builder.commands.adding import (
    add_command,
    benchmark,
    completed,
    named,
    source,
    target,
)
from dtb_builder.errors import ConfigError
from dtb_builder.shown import shown

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add them to the command line."""
    info = add_command(
        commands,
        "info",
        _info,
        "Show what a benchmark holds and how it was made.",
        "runs/quickstart",
    )
    info.add_argument("--json", action="store_true", help="the whole provenance, for programs")
    query = add_command(
        commands,
        "query",
        _query,
        "Print metrics of a benchmark's runs.",
        "runs/quickstart --top 5 --by valid_accuracy --epoch -1\nruns/quickstart --run 3",
    )
    which = query.add_mutually_exclusive_group()
    which.add_argument(
        "--genotype",
        metavar="TEXT",
        help="only its runs, at every epoch: its text, name or the first digits of its key",
    )
    which.add_argument("--run", metavar="NUMBER", type=int, help="only this run, at every epoch")
    which.add_argument("--top", metavar="K", type=int, help="only the best K runs by --by")
    which.add_argument("--csv", action="store_true", help="every run and epoch, as CSV")
    by = query.add_argument(
        "--by",
        metavar="METRIC",
        help="what --top sorts by, largest accuracy or smallest loss first",
    )
    completed(by, _metrics)
    query.add_argument("--epoch", metavar="E", type=int, help="the epoch shown; -1 is the last")
    query.add_argument(
        "--wide", action="store_true", help="whole genotypes and all columns on any terminal"
    )
    export = add_command(
        commands,
        "export",
        _export,
        "Write every run and epoch as one table.",
        "runs/quickstart --csv runs.csv",
    )
    for command in (info, query, export):
        command.add_argument("file", metavar="FILE_FOLDER_OR_URL", type=source)
    export.add_argument("--parquet", metavar="TABLE", type=_table, help="for pandas, DuckDB, ...")
    export.add_argument(
        "--csv", metavar="TABLE", type=_table, help="for everything else; - is standard output"
    )
    report = add_command(
        commands,
        "report",
        _report,
        "Write one HTML page about a benchmark, for a browser.",
        "runs/quickstart",
    )
    report.add_argument(
        "--into", metavar="FILE", type=target, help="default: report.html in FILE's folder"
    )
    draw = add_command(
        commands,
        "draw",
        _draw,
        "Draw the two cells of a genotype.",
        "DARTS_V2 --into cells.svg",
    )
    genotype = draw.add_argument(
        "genotype", metavar="GENOTYPE", help="its text, or a published one's name"
    )
    completed(genotype, _names)
    draw.add_argument(
        "--into", metavar="FILE", type=target, required=True, help="ends with .svg or .png"
    )
    publish = add_command(
        commands,
        "publish",
        _publish,
        "Make a folder for the Hugging Face Hub or Zenodo.",
        "runs/quickstart --into published --name Digits --author Ada --licence CC-BY-4.0 "
        "--url https://example.org --dry-run",
    )
    for command in (report, publish):
        command.add_argument("file", metavar="FILE_OR_FOLDER", type=benchmark)
    publish.add_argument("--into", metavar="FOLDER", type=named, required=True, help="a new folder")
    publish.add_argument("--name", required=True, help="of the data set")
    publish.add_argument("--author", action="append", required=True, help="may be given again")
    publish.add_argument("--licence", required=True, help="of the data, such as CC-BY-4.0")
    publish.add_argument("--url", required=True, help="where it will be found")
    where = publish.add_mutually_exclusive_group(required=True)
    where.add_argument("--dry-run", action="store_true", help="make the folder, upload nothing")
    where.add_argument("--repository", metavar="OWNER/NAME", help="of the Hub, to upload to")


def _metrics(**_: Any) -> list[str]:
    from dtb_builder.record import METRICS

    return list(METRICS)


def _names(**_: Any) -> list[str]:
    from dtb_builder.space import NAMED

    return list(NAMED)


def _table(text: str) -> Path | str:
    """The path of a table to write, or "-" for standard output."""
    return "-" if text in ("-", "/dev/stdout") else target(text)


def _info(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.dataset.provenance import device_names, whole_provenance

    with Benchmark(given.file) as benchmark:
        provenance = benchmark.provenance
        if given.json:
            print(json.dumps(provenance, indent=1))
            return 0
        provenance = whole_provenance(benchmark)
        images, network = provenance["images"], provenance["network"]
        print(f"file        {shown(benchmark.path)}, schema {benchmark.schema_version}")
        print(f"runs        {len(benchmark)}, of {benchmark.num_epochs} epochs each")
        if num_diverged := int((benchmark.last_epochs < benchmark.num_epochs).sum()):
            print(f"diverged    {num_diverged} runs")
        print(f"states      {benchmark.num_states}")
        print(f"genotypes   {shown(provenance['config']['space']['kind'])}")
        print(
            f"network     {network['layers']} cells of {network['channels']} channels, "
            f"auxiliary head {'on' if network['auxiliary'] else 'off'}"
        )
        shape = shown(images["shape"])
        print(f"images      {shown(images['name'])}, {images['num_classes']} classes, {shape}")
        for name, split in provenance["splits"].items():
            print(f"{shown(name):<12}{split['size']} of the {shown(split['of'])}")
        print(f"devices     {shown(', '.join(device_names(benchmark)))}")
        for failure in benchmark.failures:
            print(f"failed      run {failure.number}, {failure.attempts} attempts")
    return 0


def _query(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.publishing.tables import found_runs, print_run, print_runs

    k: int | None = given.top
    by: str | None = given.by
    epoch: int | None = given.epoch
    genotype: str | None = given.genotype
    number: int | None = given.run
    if (k is None) != (by is None):
        raise ConfigError("--top and --by must be given together")
    if k is not None and k < 1:
        raise ConfigError(f"--top must be at least 1, got {k}")
    every_epoch = given.csv or number is not None or genotype is not None
    if every_epoch and epoch is not None:
        raise ConfigError("--genotype, --run and --csv show every epoch: leave out --epoch")
    with Benchmark(given.file) as benchmark:
        if given.csv:
            benchmark.to_dataframe().to_csv(sys.stdout, index=False)
        elif number is not None:
            print_run(benchmark.run(number), wide=given.wide)
        elif genotype is not None:
            for run in found_runs(benchmark, genotype):
                print_run(run, wide=given.wide)
        elif epoch is None:
            raise ConfigError("say which epoch: --epoch -1 is the last one")
        elif k is None or by is None:
            print_runs(benchmark, epoch=benchmark.epoch_row(epoch), wide=given.wide)
        else:
            try:
                best = benchmark.top(k, by=by, epoch=epoch)
            except ValueError as error:
                raise ConfigError(f"--by {by}: {error}") from error
            print_runs(best, epoch=benchmark.epoch_row(epoch), wide=given.wide)
    return 0


def _export(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.work.byte_text import byte_text

    try:
        from dtb_builder.dataset.export import export_csv, export_parquet
    except ImportError as error:
        raise ConfigError(f"{error}: pip install 'darts-training-bench[export]'") from error

    wanted = [(given.parquet, export_parquet), (given.csv, export_csv)]
    targets = [(target, export) for target, export in wanted if target is not None]
    if not targets:
        raise ConfigError("say what to write: --parquet TABLE, --csv TABLE or both")
    if len({os.path.realpath(target) for target, _ in targets}) < len(targets):
        raise ConfigError(f"--parquet and --csv are both {given.csv}: name two files")
    with Benchmark(given.file) as benchmark:
        num_rows = len(benchmark) * (benchmark.num_epochs + 1)
        for target, export in targets:
            if target == "-":
                export(benchmark, sys.stdout.buffer)
                continue
            export(benchmark, target)
            size = f", {byte_text(target.stat().st_size)}" if target.is_file() else ""
            print(f"{target}: {num_rows} rows{size}")
    return 0


def _report(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.publishing.report import write_report

    into: Path = given.into or given.file.with_name("report.html")
    scores: Path = given.file.with_name("scores.parquet")
    with Benchmark(given.file) as benchmark:
        write_report(benchmark, into, scores if scores.exists() else None)
    print(into)
    return 0


def _draw(given: argparse.Namespace) -> int:
    from dtb_builder.space.listing import find_genotype
    from dtb_builder.stages.publishing.draw import draw

    draw(find_genotype(given.genotype), given.into)
    print(given.into)
    return 0


def _publish(given: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.publishing.publish import Publication, make_folder, upload
    from dtb_builder.stages.work.byte_text import byte_text

    if given.into.resolve() == Path.cwd():
        raise ConfigError(f"--into {given.into} is the current folder: name a new one")
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
        print(f"{byte_text(file.stat().st_size):>10}  {shown(file.relative_to(given.into))}")
    if given.dry_run:
        print(f"{given.into}: {len(files)} files, nothing uploaded")
    else:
        print(upload(given.into, given.repository, os.environ.get("HF_TOKEN")))
    return 0
