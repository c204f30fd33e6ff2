"""Darts-training-bench: trained DARTS architectures with their training states.

Names are imported when they are first used, so that ``dtb --help`` needs neither numpy nor h5py.

>>> import dtb_builder as dtb
>>> dtb.Genotype.parse(str(dtb.NAMED["DARTS_V2"])) == dtb.NAMED["DARTS_V2"]
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dtb_builder import errors
from dtb_builder.errors import DTBError

if TYPE_CHECKING:
    from dtb_builder.dataset import Benchmark, Budget, Evaluation, Run
    from dtb_builder.own_scores import score_states
    from dtb_builder.space import NAMED, Genotype

__all__ = [
    "NAMED",
    "Benchmark",
    "Budget",
    "DTBError",
    "Evaluation",
    "Genotype",
    "Run",
    "__version__",
    "errors",
    "score_states",
]

__version__ = "0.1.0"

_ROOMS = {
    "NAMED": "space",
    "Benchmark": "dataset",
    "Budget": "dataset",
    "Evaluation": "dataset",
    "Genotype": "space",
    "Run": "dataset",
    "dataset": "",
    "score_states": "own_scores",
    "space": "",
}
"""Where each name is; the rooms themselves can also be reached as attributes."""


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = import_module(f"{__name__}.{_ROOMS[name] or name}")
    found = getattr(room, name) if _ROOMS[name] else room
    globals()[name] = found  # asked once
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
