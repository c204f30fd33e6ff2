"""Write a ranking as a self-contained HTML page with a sortable table and a plot."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from dtb_builder.dataset.atomic import write_whole
from dtb_builder.stages.ranking.rank import Ranked, Ranking
from dtb_builder.stages.ranking.report import FIGURES, SHOWN, ratio_text
from dtb_builder.statistics import Interval

__all__ = ["write_page"]

_STYLE = """
body { font: 15px system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; }
th, td { padding: 2px 10px; text-align: right; white-space: nowrap; }
th { cursor: pointer; position: sticky; top: 0; background: #eee; }
td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left; }
tr:nth-child(even) { background: #f7f7f7; }
small { color: #666; }
#scores { max-height: 70vh; overflow: auto; }
"""

_SCRIPT = """
const body = document.querySelector('#scores tbody');
document.querySelectorAll('#scores th').forEach((head, column) => {
  let down = column > 1;
  head.addEventListener('click', () => {
    const value = row => row.cells[column].dataset.value;
    const missing = row => value(row) === '';
    const compare = (a, b) => isNaN(value(a)) || isNaN(value(b))
      ? value(a).localeCompare(value(b)) : value(a) - value(b);
    const rows = [...body.rows];
    rows.sort((a, b) => missing(a) - missing(b) || (down ? compare(b, a) : compare(a, b)));
    body.append(...rows);
    down = !down;
  });
});
"""


def write_page(
    path: Path, ranking: Ranking, about: Mapping[str, Any], *, title: str, notes: Sequence[str] = ()
) -> None:
    """Write the page atomically.

    Args:
        path: the page's path.
        ranking: the ranking.
        about: see `write_ranking`; the page shows its training settings.
        title: the page's title.
        notes: sentences at the top of the page.
    """
    from plotly.offline import get_plotlyjs

    lines = [f"DAS / WOT at {each.moment}: {ratio_text(each)}" for each in ranking.ratios]
    lines = [*notes, *lines, *(f"left out: {reason}" for reason in ranking.left_out)]
    trained = about.get("trained")
    recipe = "" if trained is None else yaml.safe_dump(trained, sort_keys=False)
    plot = _figure(ranking).to_html(full_html=False, include_plotlyjs=False, div_id="ranking")
    text = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>{escape(title)}</h1>"
        f"{''.join(f'<p>{escape(each)}</p>' for each in lines)}"
        f"{_table(ranking.ranked)}"
        "<p><small>Click a heading to sort by it. Intervals are of 95 %. Precision and nDCG are of "
        "the best 10 %; tau | I is Kendall's partial tau given the edges that read the normal "
        "cell's own inputs. * depends on which networks are ranked.</small></p>"
        f"<h2>Costs</h2>{plot}"
        f"{f'<h2>Training</h2><pre>{escape(recipe)}</pre>' if recipe else ''}"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )
    write_whole(path, text.encode())


def _table(ranked: Sequence[Ranked]) -> str:
    heads = ("moment", "score", "networks", *FIGURES.values(), "score s", "training s")
    rows: list[str] = []
    for row in ranked:
        name = f"{row.score} *" if row.conditional else row.score
        cells = [_cell(row.moment), _cell(name), _cell(row.num_networks)]
        cells += [_cell(getattr(row, each)) for each in FIGURES]
        cells += [_cell(row.score_seconds), _cell(row.train_seconds)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div id="scores"><table><thead><tr>{"".join(f"<th>{escape(h)}</th>" for h in heads)}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(value: Interval | str | float | None) -> str:
    if value is None:
        return '<td data-value="">-</td>'
    if isinstance(value, Interval):
        ends = f"[{value.low:.3f}, {value.high:.3f}]"
        return f'<td data-value="{value.value}">{value.value:+.3f} <small>{ends}</small></td>'
    text = f"{value:.3g}" if isinstance(value, float) else escape(str(value))
    return f'<td data-value="{escape(str(value))}">{text}</td>'


def _figure(ranking: Ranking) -> Any:
    """A plot of each score's tau against the seconds of training that it needs."""
    import plotly.graph_objects as go

    figure = go.Figure()
    scores = list(dict.fromkeys(row.score for row in ranking.ranked))
    for i, score in enumerate(scores):
        rows = [row for row in ranking.ranked if row.score == score and row.seconds is not None]
        figure.add_trace(
            go.Scatter(
                name=score,
                x=[row.seconds for row in rows],
                y=[row.tau.value for row in rows],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [row.tau.high - row.tau.value for row in rows],
                    "arrayminus": [row.tau.value - row.tau.low for row in rows],
                    "thickness": 0.7,
                },
                line={"color": f"hsl({360 * i / len(scores):.0f}, 70%, {(35, 50, 65)[i % 3]}%)"},
                text=[f"{row.moment}, {row.num_networks} networks" for row in rows],
                mode="lines+markers",
                visible=True if score in SHOWN else "legendonly",
            )
        )
    figure.update_layout(
        xaxis_title="seconds for one network: training so far and the score",
        yaxis_title="Kendall tau to the final accuracy, intervals of 95 %",
        template="plotly_white",
    )
    return figure
