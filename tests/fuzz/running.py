"""Reads inputs of one kind after another, and counts what becomes of them."""

import itertools
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from chaos.reading import peak_mib, restarted_mib
from hypothesis import HealthCheck, Phase, given, settings

from dtb_builder.errors import DTBError
from fuzz.targets import Target, WrongError

__all__ = ["BAD", "CORPUS", "MAX_MIB", "Found", "fuzzed", "replayed"]

CORPUS = Path(__file__).with_name("corpus")
BAD = ("WRONG", "UNTYPED", "OVER MEMORY", "SLOW")
MAX_MIB = 256
_MAX_SECONDS = 20


@dataclass
class Found:
    """What became of the inputs of a kind.

    Attributes:
        outcomes: how many were read, refused, or had one of the outcomes in BAD.
        bad: the first input of each bad outcome, with what was raised.
        mib: the most memory that reading took beyond what the process had before.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    bad: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    mib: float = 0.0

    def add(self, target: Target, data: bytes) -> None:
        """Read one input."""
        before, begun, detail = restarted_mib(), time.monotonic(), ""
        try:
            target.read(data)
            outcome = "read"
        except WrongError as error:
            outcome, detail = "WRONG", str(error)
        except DTBError:
            outcome = "refused"
        except Exception:  # noqa: BLE001 - the very thing that is looked for
            outcome, detail = "UNTYPED", traceback.format_exc()
        mib = peak_mib() - before
        self.mib = max(self.mib, mib)
        if outcome not in BAD and mib > MAX_MIB:
            outcome, detail = "OVER MEMORY", f"{mib:.0f} MiB"
        if outcome not in BAD and time.monotonic() - begun > _MAX_SECONDS:
            outcome = "SLOW"
        self.outcomes[outcome] += 1
        if outcome in BAD:
            self.bad.setdefault(outcome, (data, detail))


def fuzzed(
    target: Target, goes_on: Callable[[int], bool], seed: int, batch_size: int = 100
) -> Found:
    """Read inputs of a kind, in batches, as long as it goes on after so many."""
    found = Found()
    for batch in itertools.count():
        if not goes_on(sum(found.outcomes.values())):
            return found

        @hypothesis.seed(seed + batch)
        @settings(
            max_examples=batch_size,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(data=target.inputs)
        def read(data: bytes) -> None:
            found.add(target, data)

        read()
    return found


def replayed(target: Target) -> Found:
    """Read what the corpus has of a kind."""
    found = Found()
    for file in sorted(CORPUS.joinpath(target.name.replace(" ", "-")).glob("*")):
        found.add(target, file.read_bytes())
    return found
