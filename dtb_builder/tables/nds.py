"""Read the DARTS networks of Network Design Spaces, with widths, depths and test errors.

Format: DARTS.json and similar files of facebookresearch/nds. A file is a list of trained networks,
or an object with two such lists ``top`` and ``mid``. Two fields of a network are read: ``net``,
with ``genotype``, ``width``, ``depth`` and ``aux``, and ``test_ep_top1``, the test error of each
epoch in percent.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from dtb_builder.errors import GenotypeError, TableError
from dtb_builder.space import Genotype
from dtb_builder.tables.trained import Outsider, TrainedGenotype

__all__ = ["read_nds"]

_CONCAT = [2, 3, 4, 5]
_MOST = 2**9
"""Channels, and layers; the published networks have far fewer."""

_LARGEST = 2**20
"""Of layers times squared channels: a network of about 100 MB, were anybody to build it."""


def read_nds(text: str) -> tuple[tuple[TrainedGenotype, ...], tuple[Outsider, ...]]:
    """The networks of a file's text, and those that are outside the space.

    Raises:
        TableError: the text has another format; the message has the network's number.
    """
    try:
        content = json.loads(text)
        networks = content if isinstance(content, list) else [*content["top"], *content["mid"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TableError(
            f"wanted a list of networks, or an object with two lists top and mid: {error!r}"
        ) from error
    trained: list[TrainedGenotype] = []
    outside: list[Outsider] = []
    for number, network in enumerate(networks):
        try:
            trained.append(_trained(number, network))
        except GenotypeError as error:
            outside.append(Outsider(number, str(error)))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise TableError(f"network {number} has another format: {error!r}") from error
    return tuple(trained), tuple(outside)


def _trained(number: int, network: dict[str, Any]) -> TrainedGenotype:
    net = network["net"]
    channels, layers = _count("width", net["width"]), _count("depth", net["depth"])
    if layers * channels**2 > _LARGEST:
        raise ValueError(f"no published network has width {channels} and depth {layers}")
    error = float(network["test_ep_top1"][-1])
    if not (math.isfinite(error) and 0 <= error <= 100):
        raise ValueError(f"a test error must be in 0..100 percent, got {error}")
    return TrainedGenotype(
        number=number,
        genotype=_genotype(net["genotype"]),
        channels=channels,
        layers=layers,
        auxiliary=bool(net["aux"]),
        test_accuracy=1 - error / 100,
    )


def _count(name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MOST:
        raise ValueError(f"{name} must be a whole number of 1 to {_MOST}, got {value!r:.40}")
    return value


def _genotype(cells: dict[str, Any]) -> Genotype:
    for name in ("normal_concat", "reduce_concat"):
        if list(cells[name]) != _CONCAT:
            raise GenotypeError(f"{name}: wanted {_CONCAT}, got {cells[name]}")
    return Genotype(_pairs(cells["normal"]), _pairs(cells["reduce"]))


def _pairs(cell: Sequence[Sequence[Any]]) -> Any:
    return tuple((operation, predecessor) for operation, predecessor in cell)
