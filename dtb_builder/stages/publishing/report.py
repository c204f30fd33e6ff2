"""Write a self-contained HTML page about a benchmark: curves, seeds, cells, scores, failures."""

from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from dtb_builder import __version__
from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.atomic import write_whole
from dtb_builder.dataset.provenance import device_names, whole_provenance
from dtb_builder.errors import ConfigError
from dtb_builder.stages.publishing.figures import (
    ACCURACY,
    MOST_CURVES,
    MOST_RUNS,
    benchmark_figures,
    score_figures,
)
from dtb_builder.stages.work.html_page import html_page, plot, settings_list, settings_text

__all__ = ["report", "write_report"]

_MOST_LISTED = 6
_MOST_FAILURES = 200


def report(benchmark: Benchmark, scores: Path | None = None) -> bytes:
    """The page, the same bytes for the same files.

    Args:
        benchmark: the benchmark, with at least one run.
        scores: its file of scores, or None.

    Raises:
        ConfigError: there is no run, the scores are of another benchmark, or plotly is not
            installed.
    """
    if len(benchmark) == 0:
        raise ConfigError(f"{benchmark.path} has no finished run to report on")
    figures = benchmark_figures(benchmark)
    scored = None if scores is None else score_figures(benchmark, scores)
    provenance = whole_provenance(benchmark)
    sections = (
        _menu(figures),
        _curves(benchmark),
        _seeds(figures),
        _distributions(benchmark),
        _cells(benchmark),
        "" if scored is None else _SCORES,
        _failures(benchmark),
        f"<h2>Settings</h2>{settings_text(provenance['config'])}",
        '<div id="chosen" role="status" hidden></div>',
    )
    return html_page(
        title=_title(benchmark, provenance),
        facts=dict(_facts(benchmark, provenance)),
        body="".join(sections),
        data={**figures, "scores": scored},
        script=files("dtb_builder.stages.publishing") / "report.js",
    )


def write_report(benchmark: Benchmark, path: Path, scores: Path | None = None) -> None:
    """Write the page atomically; raises as `report`."""
    write_whole(path, report(benchmark, scores))


def _title(benchmark: Benchmark, provenance: dict[str, Any]) -> str:
    num_genotypes = len(benchmark.by_genotype().cells)
    return (
        f"{provenance['images']['name']}: {_counted(num_genotypes, 'DARTS genotype')}, "
        f"{_counted(len(benchmark), 'run')} of {_counted(benchmark.num_epochs, 'epoch')}"
    )


def _facts(benchmark: Benchmark, provenance: dict[str, Any]) -> Iterator[tuple[str, str]]:
    network, images, config = (provenance[name] for name in ("network", "images", "config"))
    yield "File", f"{benchmark.file_name}, schema {benchmark.schema_version}"
    splits = (f"{split['size']:,} {name}" for name, split in provenance["splits"].items())
    yield "Images", f"{images['name']}, {images['num_classes']} classes: {', '.join(splits)}"
    auxiliary = ", auxiliary head" if network["auxiliary"] else ""
    yield "Network", f"{network['layers']} cells of {network['channels']} channels{auxiliary}"
    yield "Recipe", settings_list(config["recipe"])
    yield "Seeds", _listed(sorted(set(benchmark.seeds.tolist())))
    yield "States", f"{benchmark.num_states:,} kept, {_kept(benchmark)}"
    diverged = int((benchmark.last_epochs < benchmark.num_epochs).sum())
    yield "Failures", f"{len(benchmark.failures)} failed, {diverged} diverged"
    yield "Trained on", ", ".join(device_names(benchmark))
    versions = {
        ", ".join(f"{name} {each[name]}" for name in ("torch", "python") if name in each)
        for each in benchmark.environments
    }
    made = "; ".join(sorted(versions - {""})) or "unknown versions"
    yield "Versions", f"trained with {made}; page by darts-training-bench {__version__}"


def _kept(benchmark: Benchmark) -> str:
    epochs = [moment.epoch for moment in benchmark.moments if moment.epoch is not None]
    steps = [moment.step for moment in benchmark.moments if moment.epoch is None]
    parts = [
        f"{noun}{'' if len(each) == 1 else 's'} {_listed(each)}"
        for noun, each in (("epoch", epochs), ("step", steps))
        if each
    ]
    return f"after {' and '.join(parts)}" if parts else "at no time"


def _listed(numbers: list[int]) -> str:
    """Numbers, or a few of them where they are many."""
    if len(numbers) <= 2 * _MOST_LISTED:
        return ", ".join(map(str, numbers))
    first = ", ".join(map(str, numbers[:_MOST_LISTED]))
    return f"{first}, ..., {numbers[-1]} ({len(numbers):,} of them)"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _menu(figures: dict[str, Any]) -> str:
    options = "".join(f"<option>{name}</option>" for name in figures["metrics"])
    return (
        "<p>Click a curve or a point to see its run at the bottom of the window.</p>"
        f'<div class="menu"><label>Metric <select id="metric">{options}</select></label></div>'
    )


def _curves(benchmark: Benchmark) -> str:
    return (
        '<h2>Learning curves</h2><p class="note">'
        f"{_sampled(len(benchmark), MOST_CURVES)} The line is their median, and the band holds the "
        "middle 80 % of all runs. Seconds are summed from the start. Triangles mark where states "
        'are kept. Colour: parameters, from <span id="fewest"></span> <span class="scale"></span> '
        f'to <span id="most"></span>.</p>{plot("curves", "learning curves")}'
    )


def _sampled(number: int, most: int) -> str:
    if number <= most:
        return f"All {_counted(number, 'run')}."
    return f"{most:,} of {number:,} runs, sampled evenly by {ACCURACY}."


def _seeds(figures: dict[str, Any]) -> str:
    if all(metric["seeds"] is None for metric in figures["metrics"].values()):
        return ""
    return (
        '<h2>Spread over seeds</h2><p class="note" id="spread"></p>'
        f"{plot('seeds', 'mean and range over the seeds of each genotype')}"
    )


def _distributions(benchmark: Benchmark) -> str:
    return (
        f'<h2>After the last epoch</h2><p class="note">{_sampled(len(benchmark), MOST_RUNS)} '
        "Histograms count every run.</p>"
        f"{plot('points', 'the metric and the parameters of each run')}"
        f'<div class="pair">{plot("histogram", "distribution of the metric")}'
        f"{plot('sizes', 'distribution of parameters')}</div>"
    )


def _cells(benchmark: Benchmark) -> str:
    """The cells of the best and of the worst run."""
    ranked = benchmark.top(len(benchmark), by=ACCURACY, epoch=-1)
    if not ranked:
        return ""
    drawn = "".join(
        f"<div><h3>{title}: run {run.number}, {ACCURACY} {run.metric(ACCURACY, epoch=-1):.4f}</h3>"
        f'<div class="cell">{run.genotype.to_svg()}</div></div>'
        for title, run in (("Best", ranked[0]), ("Worst", ranked[-1]))
    )
    return f'<h2>Cells of the best and of the worst</h2><div class="pair">{drawn}</div>'


_SCORES = (
    '<h2>Scores</h2><p class="note">Kendall\'s tau of each score to '
    f"{ACCURACY} after the last epoch, by the moment of the scored state. "
    "Each run counts; in dtb rank each genotype does.</p>"
    f'<div class="chips" id="series"></div>{plot("taus", "tau of each score at each moment")}'
    '<p><label>Score <select id="score"></select></label> '
    '<label>of <select id="moment"></select></label></p>'
    f"{plot('scored', 'a score and the accuracy of each run')}"
)


def _failures(benchmark: Benchmark) -> str:
    failures = benchmark.failures
    if not failures:
        return "<h2>Failures</h2><p>No run failed.</p>"
    rows = "".join(
        f"<tr><td>{failure.number}</td><td>{failure.seed}</td><td>{failure.attempts}</td><td>"
        f"<details><summary>{escape(_last_line(failure.message))}</summary>"
        f"<pre>{escape(failure.message)}</pre><code>{escape(str(failure.genotype))}</code>"
        f"</details></td></tr>"
        for failure in failures[:_MOST_FAILURES]
    )
    head = _row("th", ("run", "seed", "attempts", "reason"))
    more = "" if len(failures) <= _MOST_FAILURES else f"<p>The first {_MOST_FAILURES}.</p>"
    return f'<h2>Failures</h2>{more}<div class="scrolled"><table>{head}{rows}</table></div>'


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"


def _last_line(message: str) -> str:
    return message.strip().rpartition("\n")[2]
