"""Write a ranking as a self-contained HTML page with a sortable table and a plot."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from dtb_builder import __version__
from dtb_builder.dataset.atomic import write_whole
from dtb_builder.stages.ranking.rank import Ranked, Ranking
from dtb_builder.stages.ranking.report import FIGURES, SHOWN, ratio_text
from dtb_builder.stages.work.html_page import (
    facts_list,
    html_page,
    plot,
    series_colours,
    settings_list,
    settings_text,
)
from dtb_builder.statistics import Interval

__all__ = ["write_page"]

_NOTE = (
    "Click a heading to sort by it. Intervals are of 95 %, and the bars show those of tau, with a "
    "line at 0. Precision and nDCG are of the best 10 %; tau | I is Kendall's partial tau given "
    "the edges that read the normal cell's own inputs. * depends on which networks are ranked."
)
_COSTS = (
    "Kendall's tau to the final accuracy, with its interval, by the seconds that a network takes: "
    "its training so far and the score. Choose the scores:"
)


def write_page(
    path: Path, ranking: Ranking, about: Mapping[str, Any], *, title: str, notes: Sequence[str] = ()
) -> None:
    """Write the page atomically.

    Args:
        path: the page's path.
        ranking: the ranking.
        about: see `write_ranking`; the page shows its settings of training and resampling.
        title: the page's title.
        notes: sentences at the top of the page.
    """
    data = _figures(ranking)
    body = (
        f"{''.join(f'<p>{escape(each)}</p>' for each in notes)}"
        '<div class="menu"><label>Moment <select id="moment"></select></label></div>'
        f'{_table(ranking.ranked)}<p class="note">{_NOTE}</p>'
    )
    if ranking.ratios:
        texts = {each.moment: ratio_text(each) for each in ranking.ratios}
        body += f"<h2>Tau of DAS divided by tau of WOT</h2>{facts_list(texts)}"
    if any(data["series"].values()):
        chips = '<div class="chips" id="series"></div>'
        body += f'<h2>Costs</h2><p class="note">{_COSTS}</p>{chips}{plot("costs", "tau by cost")}'
    if ranking.left_out:
        items = "".join(f"<li>{escape(each)}</li>" for each in ranking.left_out)
        body += f'<h2>Left out</h2><ul class="note">{items}</ul>'
    if trained := about.get("trained"):
        body += f"<h2>Training</h2>{settings_text(trained)}"
    page = html_page(
        title=title,
        facts=dict(_facts(about)),
        body=body,
        data=data,
        script=files("dtb_builder.stages.ranking") / "page.js",
    )
    write_whole(path, page)


def _figures(ranking: Ranking) -> dict[str, Any]:
    """The moments, and each score's tau and its costs, those that are shown at first in front."""
    names = {row.score for row in ranking.ranked}
    shown = [name for name in SHOWN if name in names]
    scores = list(dict.fromkeys([*shown, *(row.score for row in ranking.ranked)]))
    return {
        "moments": list(dict.fromkeys(row.moment for row in ranking.ranked)),
        "colours": series_colours(scores),
        "shown": shown or scores[:5],
        "series": {
            score: [
                {"moment": row.moment, "seconds": row.seconds, **_ends(row.tau)}
                for row in ranking.ranked
                if row.score == score and row.seconds is not None
            ]
            for score in scores
        },
    }


def _ends(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _facts(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    trained = about.get("trained") or {}
    if "images" in trained:
        images = dict(trained["images"])
        name = str(images.pop("name", "unnamed"))
        yield "Images", ", ".join(filter(None, [name, settings_list(images)]))
    for name in ("network", "recipe"):
        if name in trained:
            yield name.capitalize(), settings_list(trained[name])
    if {"by", "resamples", "seed"} <= about.keys():
        yield "Ranked by", f"{about['by']} after the last epoch"
        yield "Intervals", f"of 95 %, {about['resamples']:,} resamples, seed {about['seed']}"
    yield "Version", f"darts-training-bench {__version__}"


def _table(ranked: Sequence[Ranked]) -> str:
    others = {name: head for name, head in FIGURES.items() if name != "tau"}
    sortable = ("moment", "score", "tau", *others.values(), "networks", "score s", "training s")
    heads = [f'<th aria-sort="none"><button>{escape(name)}</button></th>' for name in sortable]
    heads.insert(3, "<th>interval of tau</th>")
    low = min(0.0, *(row.tau.low for row in ranked))
    high = max(0.0, *(row.tau.high for row in ranked))

    def place(tau: float) -> float:
        return 100 * (tau - low) / ((high - low) or 1)

    rows: list[str] = []
    for row in ranked:
        name = f"{row.score} *" if row.conditional else row.score
        left, right = place(row.tau.low), place(row.tau.high)
        bar = (
            f'<i style="left:{left:.1f}%;width:{right - left:.1f}%"></i>'
            f'<b style="left:{place(row.tau.value):.1f}%"></b>'
        )
        cells = [
            *(_cell(row.moment), _cell(name), _cell(row.tau)),
            f'<td><div class="bar">{bar}</div></td>',
            *(_cell(getattr(row, each)) for each in others),
            *(_cell(row.num_networks), _cell(row.score_seconds), _cell(row.train_seconds)),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div id="scores" style="--zero:{place(0):.1f}%"><table><thead><tr>{"".join(heads)}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(value: Interval | str | float | None) -> str:
    if value is None:
        return '<td data-value="">-</td>'
    if isinstance(value, Interval):
        ends = f"[{value.low:.3f}, {value.high:.3f}]"
        return f'<td data-value="{value.value}">{value.value:+.3f} <small>{ends}</small></td>'
    text = f"{value:.3g}" if isinstance(value, float) else escape(str(value))
    return f'<td data-value="{escape(str(value))}">{text}</td>'
