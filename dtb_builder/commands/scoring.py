"""Commands that compute scores, rank them and search with them."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtb_builder.commands.adding import (
    add_command,
    add_settings,
    benchmark,
    benchmark_in,
    named,
    run_folder,
    target,
)
from dtb_builder.commands.composing import compose
from dtb_builder.commands.progress import begun, progress
from dtb_builder.commands.signals import Sigterm
from dtb_builder.errors import ConfigError
from dtb_builder.shown import shown

if TYPE_CHECKING:
    from dtb_builder.stages.ranking.population import Population
    from dtb_builder.stages.scoring.config import ScoreConfig, ScoreLaunch
    from dtb_builder.stages.scoring.own import NamedScore
    from dtb_builder.stages.scoring.sources import Source

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add them to the command line."""
    score = add_command(
        commands,
        "score",
        _score,
        "Score every stored state of a benchmark; continue after a stop.",
        "runs/quickstart scores=[wot,synflow] num_images=32",
    )
    score.add_argument("file", metavar="FILE_OR_FOLDER", type=benchmark)
    add_settings(score, "score", "such as scores=[wot,synflow], num_images=32 or compute=cuda")
    score.add_argument(
        "--score",
        metavar="MODULE:FUNCTION",
        dest="own",
        action="append",
        default=[],
        help="a score of your own, too: see docs/your_own_score.md",
    )
    score.add_argument(
        "--into", metavar="FILE", type=target, help="default: scores.parquet in FILE's folder"
    )
    rank = add_command(
        commands,
        "rank",
        _rank,
        "Measure how well each score orders a benchmark's networks.",
        "runs/quickstart --by valid_accuracy",
    )
    rank.add_argument("file", metavar="FILE_OR_FOLDER", type=named)
    add_settings(rank, "table", "with --benchmark: such as num_networks=500")
    rank.add_argument(
        "--benchmark",
        metavar="TABLE",
        help="nasbench101, nds, nasbench301, oncenas or retrained: FILE is that table, whose "
        "networks are scored first",
    )
    rank.add_argument(
        "--scores", metavar="FILE", type=named, help="default: scores.parquet in FILE's folder"
    )
    rank.add_argument(
        "--into",
        metavar="STEM",
        type=_stem,
        help="writes STEM.json and STEM.html; default: rank in FILE's folder",
    )
    rank.add_argument(
        "--by", metavar="METRIC", default="test_accuracy", help="default: test_accuracy"
    )
    rank.add_argument(
        "--choose",
        action="store_true",
        help="choose a rule on one half of the networks, test it on the other",
    )
    rank.add_argument(
        "--splits",
        metavar="N",
        type=int,
        default=5,
        help="random splits into halves, for --choose; default: 5",
    )
    rank.add_argument("--all", action="store_true", help="print every interval")
    rank.add_argument(
        "--seed", type=int, default=0, help="of the bootstrap and the splits; default: 0"
    )
    rank.add_argument(
        "--resamples", metavar="N", type=int, default=1000, help="of the bootstrap; default: 1000"
    )
    search = add_command(
        commands,
        "search",
        _search,
        "Search the space by a rule within a budget, then train the winner.",
        "runs/search rule=wot num_candidates=50 cluster=serial",
    )
    search.add_argument("run_folder", metavar="RUN_FOLDER", type=run_folder)
    add_settings(search, "search", "such as rule=wot, num_candidates=50 or images=cifar10")


def _stem(text: str) -> Path:
    """The path of files to write, without their endings; a folder is refused."""
    path = named(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: name a stem in it, {path / 'rank'}")
    return path


def _score(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.dataset.provenance import whole_provenance
    from dtb_builder.stages.scoring.config import SCORE_LAUNCH_KEYS, ScoreConfig, ScoreLaunch
    from dtb_builder.stages.scoring.own import named_score
    from dtb_builder.stages.scoring.sources import BenchmarkSource
    from dtb_builder.stages.settings.parsing import parse

    composed = compose(given.settings, "score")
    launch = parse(ScoreLaunch, {key: composed.pop(key) for key in SCORE_LAUNCH_KEYS})
    config = parse(ScoreConfig, composed)
    into: Path = (given.into or given.file.with_name("scores.parquet")).absolute()
    with Benchmark(given.file) as benchmark:
        sha256 = whole_provenance(benchmark)["images"]["sha256"]
    own = [named_score(text, Path.cwd()) for text in given.own]
    source = BenchmarkSource(given.file.absolute())
    num_failed = _score_source(source, into, config, launch, sha256=sha256, own=own)
    return 1 if num_failed else 0


def _score_source(
    source: "Source",
    into: Path,
    config: "ScoreConfig",
    launch: "ScoreLaunch",
    *,
    sha256: str | None,
    own: Sequence["NamedScore"] = (),
) -> int:
    """Score a source with a progress bar; return how many states lack a score."""
    sigterm = Sigterm()
    from dtb_builder.stages.scoring.driver import score
    from dtb_builder.stages.scoring.table import read_scores

    sigterm.raising = launch.cluster.engine == "serial"
    events = score(source, into, config, launch, images_sha256=sha256, own=own)
    at = next(events)
    with progress(total=at.num_wanted, initial=at.num_states, unit="state") as bar:
        for at in events:
            sigterm.check()
            bar.update(max(0, at.num_states - bar.n))
            if at.message is not None:
                bar.write(shown(at.message), file=sys.stderr)
    print(f"{into}: {at.num_states} of {at.num_wanted} states scored")
    if at.num_failed:
        print(
            f"{at.num_failed} states lack a score, see the column errors; retry=failed tries again"
        )
        texts = [row["errors"] for row in read_scores(into).rows if row["errors"] is not None]
        print(f"the first: {texts[0]}")
    return at.num_failed


def _rank(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.ranking.between_seeds import between_seeds
    from dtb_builder.stages.ranking.choice import check_choosable, choose_rules
    from dtb_builder.stages.ranking.halfway import halfway
    from dtb_builder.stages.ranking.page import write_page
    from dtb_builder.stages.ranking.population import populations_of, training_of
    from dtb_builder.stages.ranking.rank import rank
    from dtb_builder.stages.ranking.report import (
        print_choices,
        print_ranking,
        write_ranking,
    )
    from dtb_builder.stages.scoring.table import read_scores

    if given.seed < 0 or given.resamples < 1 or given.splits < 1:
        raise ConfigError("--seed must be at least 0, --resamples and --splits at least 1")
    notes: list[str] = []
    if given.benchmark is not None:
        given.file = given.file.absolute()  # a folder may be ".", which has no name
        populations, about = _table_populations(given)
    elif given.settings:
        raise ConfigError(f"without --benchmark, rank takes no {given.settings[0]!r}")
    else:
        given.file = benchmark_in(given.file)
        table = read_scores(given.scores or given.file.with_name("scores.parquet"))
        with Benchmark(given.file) as benchmark:
            populations = populations_of(benchmark, table, accuracy=given.by)
            if given.choose:
                for population in populations:
                    check_choosable(len(population.accuracies), population.label)
            about = dict(table.about) | {"trained": training_of(benchmark)}
            for name, figure in (("halfway", halfway), ("between_seeds", between_seeds)):
                found = figure(
                    benchmark, accuracy=given.by, seed=given.seed, num_resamples=given.resamples
                )
                if found is not None:
                    about[name] = asdict(found)
                    notes.append(str(found))
    ranking = rank(populations, seed=given.seed, num_resamples=given.resamples)
    if not ranking.ranked:
        raise ConfigError("nothing can be ranked: " + "; ".join(ranking.left_out[:3]))
    print(f"to {given.by} at the end; intervals of 95 %, {given.resamples} resamples")
    if num_diverged := max(population.num_diverged for population in populations):
        print(f"{num_diverged} networks are ranked last, because their training diverged")
    for note in notes:
        print(note)
    print_ranking(ranking, every=given.all)
    stem: Path = given.into or given.file.with_name("rank")
    about |= {"by": given.by, "seed": given.seed, "resamples": given.resamples}
    about |= {"num_diverged": num_diverged}
    write_ranking(stem.with_name(f"{stem.name}.json"), ranking, (), about)
    write_page(
        stem.with_name(f"{stem.name}.html"),
        ranking,
        about,
        notes=notes,
        title=f"Scores of {len(populations[0].accuracies)} networks, by {given.by} at the end",
    )
    print(f"written: {stem}.json, {stem}.html")
    if given.choose:
        choices = [
            choice
            for population in populations
            for choice in choose_rules(
                population,
                seed=given.seed,
                num_splits=given.splits,
                num_resamples=given.resamples,
            )
        ]
        print_choices(choices)
        write_ranking(stem.with_name(f"{stem.name}.json"), ranking, choices, about)
    return 0


def _table_populations(given: argparse.Namespace) -> tuple[list["Population"], dict[str, Any]]:
    """The networks of a published table, scored at their initialisation."""
    from dtb_builder.stages.ranking.choice import check_choosable
    from dtb_builder.stages.ranking.table_population import table_populations
    from dtb_builder.stages.scoring.config import SCORE_LAUNCH_KEYS, ScoreConfig, ScoreLaunch
    from dtb_builder.stages.scoring.table import read_scores
    from dtb_builder.stages.scoring.table_source import TableConfig, make_source, read_table
    from dtb_builder.stages.settings.parsing import parse

    if given.by != "test_accuracy":
        raise ConfigError(f"a table's networks have a test_accuracy only, got --by {given.by}")
    composed = compose(given.settings, "table")
    launch = parse(ScoreLaunch, {key: composed.pop(key) for key in SCORE_LAUNCH_KEYS})
    names = TableConfig.__dataclass_fields__
    config = parse(TableConfig, {key: composed.pop(key) for key in names})
    digest, networks, num_outside = read_table(given.benchmark, given.file, config)
    print(f"{given.file}: {len(networks)} networks drawn, {num_outside} outside the space")
    if given.choose:
        check_choosable(len(networks), str(given.file))
    into: Path = (given.scores or given.file.with_name("scores.parquet")).absolute()
    source = make_source(given.benchmark, digest, networks, config, launch.images_root)
    _score_source(source, into, parse(ScoreConfig, composed), launch, sha256=None)
    table = read_scores(into)
    return table_populations(source, table), dict(table.about)


def _search(given: argparse.Namespace) -> int:
    sigterm = Sigterm()
    from dtb_builder.stages.search.config import SearchConfig
    from dtb_builder.stages.search.driver import SearchFolder, SearchResult, search
    from dtb_builder.stages.search.winner import train_winner, winners_run
    from dtb_builder.stages.settings.cluster import ClusterConfig
    from dtb_builder.stages.settings.parsing import parse

    composed = compose(given.settings, "search")
    cluster = parse(ClusterConfig, composed.pop("cluster"))
    config = parse(SearchConfig, composed)
    folder = SearchFolder(given.run_folder.absolute())
    sigterm.raising = cluster.engine == "serial"
    result: SearchResult | None = None
    searching = begun(search(folder, config, cluster))
    with progress(total=config.num_candidates, unit="candidate") as bar:
        for at in searching:
            sigterm.check()
            bar.update(max(0, at.num_candidates - bar.n))
            result = at if isinstance(at, SearchResult) else None
    assert result is not None
    when = f"epoch {result.rule.epoch}" if result.rule.step is None else f"step {result.rule.step}"
    print(shown(f"rule      {result.rule.score} at {when}"))
    print(
        f"tried     {result.num_candidates} candidates, {result.steps} training steps, "
        f"{result.seconds:.0f} s of work"
    )
    print(f"winner    candidate {result.candidate.index}, score {result.score:.6g}")
    print(f"          {result.candidate.genotype}")
    num_epochs = config.recipe.num_epochs
    with progress(total=num_epochs, unit="epoch", desc="winner") as bar:
        for done in train_winner(folder, config, cluster):
            sigterm.check()
            bar.update(max(0, done.num_epochs - bar.n))
    run = winners_run(folder)
    for name in ("valid_accuracy", "test_accuracy"):
        print(f"{name:<15}{run.metric(name, epoch=-1):.4f} after {num_epochs} epochs")
    return 0
