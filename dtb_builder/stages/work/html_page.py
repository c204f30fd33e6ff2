"""The frame of an HTML page: one file with its style, data and scripts, which asks no network."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np

from dtb_builder.errors import ConfigError

__all__ = [
    "evenly",
    "facts_list",
    "html_page",
    "plot",
    "series_colours",
    "settings_list",
    "settings_text",
]

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; "
    "script-src 'unsafe-inline' 'unsafe-eval'"  # plotly makes its WebGL programs by eval
)
_COLOURS = (
    *("#3b82d6", "#e0731d", "#2e9e5b", "#d9483b", "#9467bd"),
    *("#a0694b", "#d864a9", "#8a8a8a", "#97971a", "#1a9fb5"),
)
_MOST_ITEMS = 20
"""A longer list of settings, such as one of genotypes, is cut."""


def html_page(
    *, title: str, facts: Mapping[str, str], body: str, data: Any, script: Traversable
) -> bytes:
    """A whole page.

    Args:
        title: the title.
        facts: a line of text for each name, below the title.
        body: HTML.
        data: what the script reads as ``data``, for JSON.
        script: JavaScript that draws the figures.

    Raises:
        ConfigError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError("pages need plotly, in the extra [report]") from error
    here = files("dtb_builder.stages.work")
    # No "<", so that no text of a file can end the element.
    content = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{(here / 'page.css').read_text()}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{facts_list(facts)}{body}</main>"
        f'<script id="data" type="application/json">{content}</script>'
        f"<script>{get_plotlyjs()}</script>"
        f'<script type="module">{(here / "page.js").read_text()}{script.read_text()}</script>'
        "</body></html>\n"
    )
    return text.encode()


def facts_list(facts: Mapping[str, str]) -> str:
    """A line of text for each name."""
    lines = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<dl>{lines}</dl>"


def plot(name: str, label: str) -> str:
    """The place of a figure that the page's script draws."""
    return f'<div class="plot" id="{name}" role="img" aria-label="{escape(label)}"></div>'


def evenly(size: int, most: int) -> list[int]:
    """At most ``most`` numbers below ``size``, evenly spaced, with the first and the last.

    >>> evenly(101, 5)
    [0, 25, 50, 75, 100]
    >>> evenly(3, 5)
    [0, 1, 2]
    """
    return np.linspace(0, size - 1, min(size, most)).round().astype(int).tolist()


def series_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, all different, readable on white and on black; best first."""
    more = (
        f"hsl({137.508 * i % 360:.2f}, 55%, {(40, 60, 50)[i % 3]}%)"
        for i in range(len(names) - len(_COLOURS))
    )
    return dict(zip(names, (*_COLOURS, *more), strict=False))


def settings_list(settings: Mapping[str, Any]) -> str:
    """Settings in one line, without those that are off.

    >>> settings_list({"batch_size": 64, "momentum": 0.9, "nesterov": False})
    'batch size 64, momentum 0.9'
    """
    on = {name: value for name, value in settings.items() if value not in (None, False, 0, "")}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in on.items())


def settings_text(settings: Mapping[str, Any]) -> str:
    """All settings, folded, each on a line as the command line takes it."""
    lines = "\n".join(_settings(settings, ""))
    return f"<details><summary>All settings</summary><pre>{escape(lines)}</pre></details>"


def _settings(settings: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _settings(value, f"{prefix}{name}.")
        elif isinstance(value, list) and len(value) > _MOST_ITEMS:
            yield f"{prefix}{name}: a list of {len(value):,}"
        else:
            yield f"{prefix}{name}={json.dumps(value)}"
