"""Check that the runs of two files were trained with the same settings and images."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.errors import PlanMismatchError
from dtb_builder.stages.settings.config import stored_settings

__all__ = ["advice", "check_same_study"]

_CHOOSING = ("space.", "seeds", "order_seeds", "shard_size", "branch.runs_sha256")
"""Settings that decide which runs there are and in which files, but not a run's bits."""

_KEEPING = tuple(f"states.{name}" for name in ("epochs", "steps", "key_every", "momentum"))
"""Settings that decide which states are stored, but not their bits."""

_MORE_EPOCHS = (
    "recipe.num_epochs: the learning rate's cosine spans all epochs, so another number of epochs "
    "changes the training from its first epoch; dtb branch continues from stored states"
)


def check_same_study(
    wanted: Mapping[str, Any], found: Mapping[str, Any], *, where: str, user: str
) -> None:
    """Refuse runs that were trained with other deciding settings or on other images.

    Args:
        wanted: the provenance of the file that takes the runs.
        found: the provenance of the file with the runs.
        where: the file with the runs, for the message.
        user: the file that takes the runs, for the message.

    Raises:
        PlanMismatchError: settings differ; the message lists them.
        DamagedFileError: a provenance lacks some.
    """
    with damage_is_named(user):
        one = _deciding(wanted)
    with damage_is_named(where):
        other = _deciding(found)
    differ = [key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]
    if differ:
        lines = [f"  {key}: {one.get(key)!r} wanted, {other.get(key)!r} there" for key in differ]
        hint = [_MORE_EPOCHS] if "recipe.num_epochs" in differ else []
        raise PlanMismatchError(
            "\n".join(
                [
                    f"the runs of {where} were not trained with the settings of {user}:",
                    *lines,
                    *hint,
                ]
            )
        )


def advice(differ: Collection[str], old: Path) -> list[str]:
    """Advice for settings that differ from those of a planned folder; empty if there is none.

    Args:
        differ: the settings that differ.
        old: the planned folder.
    """
    if "recipe.num_epochs" in differ:
        return [_MORE_EPOCHS]
    other = [key for key in differ if not key.startswith(_CHOOSING)]
    if not other:
        return [f"dtb generate NEW_FOLDER SETTINGS --adopt {old} takes over the runs of both"]
    if all(key in _KEEPING for key in other):
        return [
            f"dtb generate NEW_FOLDER SETTINGS --adopt {old} takes over its runs with fewer states",
            "--widen instead of --adopt trains them again, to the same bits, with more states",
        ]
    return []


def _deciding(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The settings and hashes that decide a run's bits, as a flat dictionary."""
    settings = stored_settings(provenance["config"])
    kept = {
        key: value
        for key, value in settings.items()
        if key not in _KEEPING and not key.startswith(_CHOOSING)
    }
    kept["images.sha256"] = provenance["images"]["sha256"]
    for name, split in provenance["splits"].items():
        kept[f"splits.{name}"] = split["indices_sha256"][:12]
    if "parent" in provenance:
        text = json.dumps(provenance["parent"], sort_keys=True)
        kept["parent"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return kept
