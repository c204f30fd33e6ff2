"""Settings as plain values, one in another or flat; and in what two of them differ."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

__all__ = ["flat", "plain", "settings_differences"]


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


def settings_differences(
    stored: Mapping[str, Any], given: Mapping[str, Any], *, then: str = "then"
) -> list[str]:
    """In what they differ, as ``key: stored then, given now`` texts."""
    one, other = flat(stored), flat(given)
    return [
        f"{key}: {one.get(key)!r} {then}, {other.get(key)!r} now"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]
