"""When two runs are the same run, and when the same run has the same bits."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from dtb_builder.dataset.store import Store
from dtb_builder.errors import DamagedFileError
from dtb_builder.record import METRICS

__all__ = ["adopted", "bits_that_differ", "identities", "identity"]

_TRAINED = "runs/state_crc32c"
_FACTS = tuple(
    f"{group}/{name}"
    for group in ("measured", "metrics")
    for name in METRICS
    if not name.endswith("seconds")
)
_BLOCK_RUNS = 4096


def identity(key: bytes, seed: int, order_seed: int, origin: Mapping[str, Any]) -> bytes:
    """What two runs share that are the same, under one recipe on the same images.

    Args:
        key: SHA-256 of the genotype's canonical text.
        seed: of the initialisation.
        order_seed: of the data order.
        origin: where the run comes from: a branched one also by its parent.
    """
    if origin.get("kind") != "branched":
        parent = b""
    else:
        names = ("epoch", "provenance_sha256", "crc32c", "state_crc32c")
        text = json.dumps([origin.get(name) for name in names])
        parent = hashlib.sha256(text.encode()).digest()[:16]
    return key[:16] + struct.pack("<qq", seed, order_seed) + parent


def identities(store: Store) -> Iterator[bytes]:
    """The identity of each run of a file, in their order.

    Raises:
        DamagedFileError: the file is damaged.
    """
    names = ("runs/key", "runs/seed", "runs/order_seed", "runs/origin")
    store.check_listed()
    for columns in store.index.streamed(names, _BLOCK_RUNS):
        keys, *rest = (columns[name] for name in names)
        for key, seed, order_seed, origin in zip(keys, *(c.tolist() for c in rest), strict=True):
            yield identity(key.tobytes(), seed, order_seed, store.origins[origin])


def bits_that_differ(store: Store, row: int, other: Store, other_row: int) -> str | None:
    """In what a run differs from the same run of another file; None if in nothing but seconds."""
    names = ("runs/num_epochs", _TRAINED, *_FACTS)
    mine, its = store.index.cells(names, row), other.index.cells(names, other_row)
    if mine[_TRAINED].shape != its[_TRAINED].shape:
        raise DamagedFileError(f"{store.path} and {other.path} have not as many epochs")
    changed = (mine[_TRAINED] != its[_TRAINED]).nonzero()[0]
    if len(changed):
        return f"the state from epoch {changed[0]} on"
    for name in names:
        if mine[name].tobytes() != its[name].tobytes():
            return name
    return None


def adopted(origin: Mapping[str, Any], provenance_sha256: str) -> dict[str, Any]:
    """The origin of a run once it is copied: it says from then on where the run was trained.

    Args:
        origin: of the run.
        provenance_sha256: of the provenance of the file that the run is copied from.
    """
    return {"adopted_from": provenance_sha256, **origin}
