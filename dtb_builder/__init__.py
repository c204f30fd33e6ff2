"""Darts-training-bench: trained DARTS architectures with their training states.

>>> import dtb_builder as dtb
>>> dtb.Genotype.parse(str(dtb.NAMED["DARTS_V2"])) == dtb.NAMED["DARTS_V2"]
True
"""

from dtb_builder import errors
from dtb_builder.dataset import Benchmark, Budget, Evaluation, Run
from dtb_builder.errors import DTBError
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
