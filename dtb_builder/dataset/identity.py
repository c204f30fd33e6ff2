"""Whether two runs are the same run, and whether two copies of a run have the same bits."""

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
    """The bytes that tell the runs of one recipe on one image set apart; copies share them.

    Args:
        key: SHA-256 of the genotype's canonical text.
        seed: of the initialisation.
        order_seed: of the data order.
        origin: where the run comes from; a branched run is told apart by its parent, too.
    """
    if origin.get("kind") != "branched":
        parent = b""
    else:
        names = ("epoch", "provenance_sha256", "crc32c", "state_crc32c")
        text = json.dumps([origin.get(name) for name in names])
        parent = hashlib.sha256(text.encode()).digest()[:16]
    return key[:16] + struct.pack("<qq", seed, order_seed) + parent


def identities(store: Store) -> Iterator[bytes]:
    """The identity of each run of a file, in the file's order.

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
    """What differs between two copies of a run, times aside; None if nothing does."""
    names = ("runs/num_epochs", _TRAINED, *_FACTS)
    mine, its = store.index.cells(names, row), other.index.cells(names, other_row)
    if mine[_TRAINED].shape != its[_TRAINED].shape:
        raise DamagedFileError(f"{store.path} and {other.path} have different numbers of epochs")
    changed = (mine[_TRAINED] != its[_TRAINED]).nonzero()[0]
    if len(changed):
        return f"the state from epoch {changed[0]} on"
    for name in names:
        if mine[name].tobytes() != its[name].tobytes():
            return name
    return None


def adopted(origin: Mapping[str, Any], provenance_sha256: str) -> dict[str, Any]:
    """The origin that a copied run gets: it names the plan that the run was trained under.

    Args:
        origin: of the run.
        provenance_sha256: SHA-256 of the provenance of the file that the run is copied from.
    """
    return {"adopted_from": provenance_sha256, **origin}
