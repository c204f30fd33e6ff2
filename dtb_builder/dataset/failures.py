"""Converting the runs that were given up to columns of the index, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.space import Genotype

__all__ = ["FAILURES", "FailedRun", "failure_columns", "failures_from"]

_NUMBERS = ("number", "seed", "order_seed", "attempts")

FAILURES = tuple(f"failures/{name}" for name in ("genotype", *_NUMBERS))
"""The columns of failed runs; their messages are texts."""


@dataclass(frozen=True)
class FailedRun:
    """A run that was tried as often as allowed and never finished.

    Attributes:
        number: the run's number in the plan.
        genotype: its genotype.
        seed: its seed.
        order_seed: its order seed.
        attempts: how often it was tried.
        message: the last attempt's traceback.
    """

    number: int
    genotype: Genotype
    seed: int
    order_seed: int
    attempts: int
    message: str


def failure_columns(failures: Sequence[FailedRun]) -> dict[str, NDArray[Any]]:
    """The columns of shape (failures,) and (failures, 2, 8, 2)."""
    columns = {f"failures/{n}": np.array([getattr(f, n) for f in failures]) for n in _NUMBERS}
    genotypes = np.array([failure.genotype.canonical().to_array() for failure in failures])
    return columns | {"failures/genotype": genotypes}


def failures_from(
    columns: Mapping[str, NDArray[Any]], messages: Sequence[str]
) -> tuple[FailedRun, ...]:
    """The failed runs in these columns.

    Raises:
        GenotypeError: a genotype is outside the space.
        ValueError: the number of messages is wrong.
    """
    numbers = (columns[f"failures/{name}"].tolist() for name in _NUMBERS)
    rows = zip(columns["failures/genotype"], messages, *numbers, strict=True)
    return tuple(
        FailedRun(number, Genotype.from_array(genotype), seed, order_seed, attempts, message)
        for genotype, message, number, seed, order_seed, attempts in rows
    )
