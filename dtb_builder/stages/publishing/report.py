"""Write a self-contained HTML page about a benchmark: curves, cells, scores, failures."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.atomic import write_whole
from dtb_builder.dataset.provenance import device_names, whole_provenance
from dtb_builder.dataset.run import Run
from dtb_builder.errors import ConfigError
from dtb_builder.stages.scoring.fingerprint import rows_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["report", "write_report"]

_METRIC = "valid_accuracy"
_MOST_CURVES = 300
"""With more runs, only every n-th curve is drawn, so that the plot is readable and fast."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; color: #222 }
h1 { margin-bottom: 0 } h2 { margin-top: 2em }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: left }
th { border-bottom: 1px solid #999 } pre { white-space: pre-wrap; font-size: 12px }
#run { position: sticky; bottom: 0; background: #f6f8fa; border-top: 2px solid #1f77b4;
  padding: .6em 1em; min-height: 3em; overflow-wrap: anywhere } code { font-size: 12px }
.cells { display: flex; flex-wrap: wrap; gap: 1em } .cells svg { max-width: 520px; height: auto }
"""

_SCRIPT = """
const runs = JSON.parse(document.getElementById('runs').textContent);
function show(number) {
  const run = runs[number];
  document.getElementById('run').innerHTML =
    `<b>run ${number}</b>, seed ${run.seed}, ${run.parameters.toLocaleString()} parameters, ` +
    run.metrics + `<br><code id="genotype">${run.genotype}</code>`;
}
for (const plot of document.querySelectorAll('.js-plotly-plot')) {
  plot.on('plotly_click', event => {
    const point = event.points[0];
    const number = point.customdata ?? point.data.meta;
    if (number !== undefined && number !== null) show(Array.isArray(number) ? number[0] : number);
  });
}
"""


def report(benchmark: Benchmark, scores: Path | None = None) -> str:
    """The page's HTML.

    Args:
        benchmark: the benchmark, with at least one run.
        scores: its file of scores, or None.

    Raises:
        ConfigError: there is no run, the scores are of another benchmark, or plotly is not
            installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError("dtb report needs plotly, in the extra [report]") from error
    if len(benchmark) == 0:
        raise ConfigError(f"{benchmark.path} has no finished run to report on")
    parts = [
        f"<h1>{escape(benchmark.file_name)}</h1>",
        _facts(benchmark),
        "<p>Click a curve or a point: its run is shown at the bottom of the window.</p>",
        _section("Learning curves", _curves(benchmark)),
        _section("Accuracy after the last epoch, and parameters", *_distributions(benchmark)),
        _cells(benchmark),
        *_scores(benchmark, scores),
        _failures(benchmark),
        '<div id="run">no run is chosen</div>',
    ]
    runs = json.dumps({run.number: _about(run) for run in benchmark}).replace("</", "<\\/")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(benchmark.file_name)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>{''.join(parts)}"
        f'<script id="runs" type="application/json">{runs}</script>'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def write_report(benchmark: Benchmark, path: Path, scores: Path | None = None) -> None:
    """Write the page atomically; raises as `report`."""
    write_whole(path, report(benchmark, scores).encode())


def _facts(benchmark: Benchmark) -> str:
    provenance = whole_provenance(benchmark)
    network, images = provenance["network"], provenance["images"]
    rows = {
        "runs": f"{len(benchmark):,} of {benchmark.num_epochs} epochs",
        "failed": f"{len(benchmark.failures)}",
        "images": f"{images['name']}: "
        + ", ".join(f"{split['size']:,} {name}" for name, split in provenance["splits"].items()),
        "network": f"{network['layers']} cells of {network['channels']} channels",
        "devices": ", ".join(device_names(benchmark)),
    }
    cells = "".join(f"<tr><th>{k}</th><td>{escape(v)}</td></tr>" for k, v in rows.items())
    return f"<table>{cells}</table>"


def _about(run: Run) -> dict[str, Any]:
    shown = ("train_accuracy", "valid_accuracy", "test_accuracy")
    values = {name: run.curve(name)[-1] for name in shown}
    measured = [f"{k} {v:.4f}" for k, v in values.items() if v is not np.ma.masked]
    return {
        "seed": run.seed,
        "parameters": run.num_parameters,
        "metrics": ", ".join(measured),
        "genotype": str(run.genotype),
    }


def _section(title: str, *figures: "go.Figure") -> str:
    drawn = "".join(
        figure.to_html(full_html=False, include_plotlyjs=False, default_height="420px")
        for figure in figures
    )
    return f"<h2>{escape(title)}</h2>{drawn}"


def _curves(benchmark: Benchmark) -> "go.Figure":
    """The curve of every run or, sorted by accuracy, of every n-th."""
    import plotly.graph_objects as go

    values = benchmark.array(_METRIC)
    order = np.argsort(-values[:, -1].filled(-np.inf), kind="stable")
    rows = order[:: -(-len(order) // _MOST_CURVES)].tolist()
    runs = list(benchmark)
    figure = go.Figure(
        [
            go.Scatter(
                y=values[row].filled(np.nan).tolist(),
                connectgaps=True,  # over epochs that were not evaluated
                mode="lines+markers" if benchmark.num_epochs < 20 else "lines",
                line={"width": 1.2},
                opacity=0.7,
                name=f"run {runs[row].number}",
                meta=runs[row].number,
                hovertemplate=f"run {runs[row].number}, epoch %{{x}}: %{{y:.4f}}<br>"
                + _wrapped(str(runs[row].genotype)),
            )
            for row in rows
        ]
    )
    title = f"{_METRIC}, {len(rows):,} of {len(runs):,} runs"
    return _laid_out(figure, title, "epoch", _METRIC)


def _distributions(benchmark: Benchmark) -> Iterator["go.Figure"]:
    import plotly.graph_objects as go

    last = benchmark.array(_METRIC, epoch=-1).filled(np.nan)
    numbers = benchmark.numbers.tolist()
    points = go.Scatter(
        x=benchmark.num_parameters.tolist(),
        y=last.tolist(),
        mode="markers",
        customdata=numbers,
        hovertemplate="run %{customdata}: %{x:,} parameters, %{y:.4f}<extra></extra>",
    )
    yield _laid_out(go.Figure(points), "a point for each run", "parameters", _METRIC)
    yield _laid_out(
        go.Figure(go.Histogram(x=last.tolist())), "distribution of accuracy", _METRIC, "runs"
    )
    yield _laid_out(
        go.Figure(go.Histogram(x=benchmark.num_parameters.tolist())),
        "distribution of parameters",
        "parameters",
        "runs",
    )


def _cells(benchmark: Benchmark) -> str:
    """The best and the worst run's cells."""
    ranked = benchmark.top(len(benchmark), by=_METRIC, epoch=-1)
    if not ranked:
        return ""
    drawn = "".join(
        f"<div><h3>{title}: run {run.number}, {run.metric(_METRIC, epoch=-1):.4f}</h3>"
        f"{run.genotype.to_svg()}</div>"
        for title, run in (("best", ranked[0]), ("worst", ranked[-1]))
    )
    return f'<h2>Cells of the best and the worst</h2><div class="cells">{drawn}</div>'


def _scores(benchmark: Benchmark, file: Path | None) -> Iterator[str]:
    """Plots of each score against accuracy; t is the epoch or step whose state was scored."""
    if file is None:
        return
    import pandas
    import plotly.graph_objects as go

    from dtb_builder.stages.scoring.table import read_scores  # here: it needs pyarrow

    rows = rows_of(benchmark, read_scores(file).rows, file)
    if not rows:
        return
    table = pandas.DataFrame(rows)
    # Only the scores of the largest probe.
    table = table[table["num_images"].isna() | (table["num_images"] == table["num_images"].max())]
    names = [name for name in _score_names(table) if table[name].notna().any()]
    last = benchmark.array(_METRIC, epoch=-1).filled(np.nan)
    accuracy = dict(zip(benchmark.numbers.tolist(), last.tolist(), strict=True))
    table = table.assign(accuracy=table["run"].map(accuracy), t=_moments(table))
    # A state within the first epoch has no epoch number.
    ordered = table.assign(epoch=table["epoch"].fillna(0.5)).sort_values(["epoch", "step"])
    moments = list(dict.fromkeys(ordered["t"]))
    taus, figure = go.Figure(), go.Figure()
    for name in names:
        parts = [table[(table["t"] == t) & table[name].notna()] for t in moments]
        tau = [_tau(part[name], part["accuracy"]) for part in parts]
        taus.add_scatter(x=moments, y=tau, mode="lines+markers", name=name)
        for t, part in zip(moments, parts, strict=True):
            figure.add_scatter(
                x=part[name].tolist(),
                y=part["accuracy"].tolist(),
                mode="markers",
                name=f"{name}, t = {t}",
                customdata=part["run"].tolist(),
                visible=True if (name, t) == (names[0], moments[0]) else "legendonly",
                hovertemplate="run %{customdata}: %{x:.4g}, %{y:.4f}<extra></extra>",
            )
    yield _section(
        "Scores",
        _laid_out(taus, "Kendall's tau to accuracy", "t, the epoch scored", "tau"),
        _laid_out(figure, "choose in the legend what is shown", "score", _METRIC),
    )


def _score_names(table: Any) -> list[str]:
    facts = {"run", "seed", "epoch", "step", "num_images", "smallest_eigenvalue"}
    return [
        name
        for name in table.select_dtypes("number").columns
        if name not in facts and not name.endswith("_seconds")
    ]


def _tau(scores: Any, accuracies: Any) -> float | None:
    """Kendall's tau; None where it is undefined, as for constant scores."""
    from dtb_builder.statistics.ranking import kendall_tau  # here: it needs scipy

    try:
        return kendall_tau(scores, accuracies)
    except ValueError:
        return None


def _moments(table: Any) -> list[str]:
    """A label for each row's state: its epoch, or its step within the first epoch."""
    return [
        f"step {step:.0f}" if epoch != epoch else f"{epoch:.0f}"  # NaN differs from itself
        for epoch, step in zip(table["epoch"], table["step"], strict=True)
    ]


def _failures(benchmark: Benchmark) -> str:
    rows = "".join(
        f"<tr><td>{failure.number}</td><td>{failure.seed}</td><td>{failure.attempts}</td><td>"
        f"<details><summary>{escape(_last_line(failure.message))}</summary>"
        f"<pre>{escape(failure.message)}</pre><code>{escape(str(failure.genotype))}</code>"
        f"</details></td></tr>"
        for failure in benchmark.failures
    )
    if not rows:
        return "<h2>Failures</h2><p>No run failed.</p>"
    head = "<tr><th>run</th><th>seed</th><th>attempts</th><th>reason</th></tr>"
    return f"<h2>Failures</h2><table>{head}{rows}</table>"


def _last_line(message: str) -> str:
    return message.strip().rpartition("\n")[2]


def _laid_out(figure: "go.Figure", title: str, x: str, y: str) -> "go.Figure":
    return figure.update_layout(
        title=title,
        xaxis_title=x,
        yaxis_title=y,
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        hovermode="closest",
    )


def _wrapped(text: str) -> str:
    """A genotype's text in lines that fit a hover box."""
    parts: Sequence[str] = text.replace("reduce=", "<br>reduce=").split("), ")
    lines = ["), ".join(parts[i : i + 4]) for i in range(0, len(parts), 4)]
    return "), <br>".join(lines) + "<extra></extra>"
