"""The facts about a benchmark that a notebook shows, without reading any column."""

from html import escape
from typing import Any

__all__ = ["facts_html", "facts_of"]


def facts_of(provenance: dict[str, Any]) -> dict[str, str]:
    """The network, images, splits and recipe of a provenance; empty if it lacks one."""
    try:
        network, images = provenance["network"], provenance["images"]
        recipe, splits = provenance["config"]["recipe"], provenance["splits"]
        return {
            "network": f"{network['layers']} cells of {network['channels']} channels",
            "images": f"{images['name']}, {images['num_classes']} classes, {images['shape']}",
            "splits": ", ".join(f"{name} {split['size']}" for name, split in splits.items()),
            "recipe": f"batches of {recipe['batch_size']}, learning rate {recipe['learning_rate']}",
        }
    except (
        KeyError,
        TypeError,
        AttributeError,
    ):  # of another program, or damaged, which verify reports
        return {}


def facts_html(title: str, facts: dict[str, str]) -> str:
    """A small HTML table with a row for each fact; names and facts are escaped."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(fact)}</td></tr>"
        for name, fact in facts.items()
    )
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"
