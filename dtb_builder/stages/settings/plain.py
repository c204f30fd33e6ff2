"""Settings as plain values, nested or flat, and the comparison of two."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dtb_builder.errors import PlanMismatchError

__all__ = ["check_settings", "flat", "plain", "settings_that_differ"]


def plain(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as JSON values: with lists instead of tuples."""
    return json.loads(json.dumps(asdict(settings)))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted path, with lists instead of tuples.

    >>> flat({"network": {"channels": 4}, "seeds": (0, 1)})
    {'network.channels': 4, 'seeds': [0, 1]}
    """
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return values


def check_settings(
    stored: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    what: str,
    instead: str,
    then: str = "then",
    now: str = "now",
) -> None:
    """Refuse settings that differ from the stored ones.

    Args:
        stored: the settings of the first call.
        given: the settings of this call.
        what: the first line of the error: what has other settings.
        instead: the last line of the error: what the user can do.
        then: a word for the time of the first call.
        now: a word for the time of this call.

    Raises:
        PlanMismatchError: settings differ; the message lists them.
    """
    if differing := settings_that_differ(stored, given, then=then, now=now):
        lines = [f"{what}:", *(f"  {text}" for text in differing), instead]
        raise PlanMismatchError("\n".join(lines))


def settings_that_differ(
    stored: Mapping[str, Any], given: Mapping[str, Any], *, then: str = "then", now: str = "now"
) -> list[str]:
    """The settings that differ, as texts ``key: stored then, given now``."""
    one, other = flat(stored), flat(given)
    return [
        f"{key}: {one.get(key)!r} {then}, {other.get(key)!r} {now}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]
