"""Settings as plain values, nested or flat; and which of them differ."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dtb_builder.errors import PlanMismatchError

__all__ = ["check_settings", "flat", "plain", "settings_that_differ"]


def plain(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as JSON gives it back: tuples as lists."""
    return json.loads(json.dumps(asdict(settings)))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted path; tuples as lists.

    >>> flat({"network": {"channels": 4}, "seeds": (0, 1)})
    {'network.channels': 4, 'seeds': [0, 1]}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def check_settings(
    stored: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    what: str,
    instead: str,
    then: str = "then",
) -> None:
    """Refuse settings other than the stored ones.

    Args:
        stored: those of the first call.
        given: those of this call.
        what: the first line of the error: what has other settings.
        instead: its last line: what a person can do.
        then: when the stored ones were given.

    Raises:
        PlanMismatchError: naming every setting that differs.
    """
    if found := settings_that_differ(stored, given, then=then):
        raise PlanMismatchError("\n".join([f"{what}:", *(f"  {text}" for text in found), instead]))


def settings_that_differ(
    stored: Mapping[str, Any], given: Mapping[str, Any], *, then: str = "then"
) -> list[str]:
    """Those that differ, as ``key: stored then, given now`` texts."""
    one, other = flat(stored), flat(given)
    return [
        f"{key}: {one.get(key)!r} {then}, {other.get(key)!r} now"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]
