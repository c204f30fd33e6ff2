"""What a notebook shows of a benchmark: what can be said without reading its columns."""

from html import escape
from typing import Any

__all__ = ["facts_html", "facts_of"]


def facts_of(provenance: dict[str, Any]) -> dict[str, str]:
    """The network, images and recipe of a provenance, as far as it has them."""
    try:
        network, images = provenance["network"], provenance["images"]
        recipe, splits = provenance["config"]["recipe"], provenance["splits"]
        return {
            "network": f"{network['layers']} cells of {network['channels']} channels",
            "images": f"{images['name']}, {images['num_classes']} classes, {images['shape']}",
            "splits": ", ".join(f"{name} {split['size']}" for name, split in splits.items()),
            "recipe": f"batches of {recipe['batch_size']}, learning rate {recipe['learning_rate']}",
        }
    except (KeyError, TypeError, AttributeError):  # another program's, or damaged: verify says so
        return {}


def facts_html(title: str, facts: dict[str, str]) -> str:
    """A small table with a row for each fact; nothing of it is taken for HTML."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(fact)}</td></tr>"
        for name, fact in facts.items()
    )
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"
