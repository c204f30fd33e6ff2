"""Published tables of trained networks, read from files that the user downloads."""

from dtb_builder.tables.nasbench101 import EvaluationData, TrainedCell, read_nasbench101
from dtb_builder.tables.nds import Outsider, TrainedGenotype, read_nds

__all__ = [
    "EvaluationData",
    "Outsider",
    "TrainedCell",
    "TrainedGenotype",
    "read_nasbench101",
    "read_nds",
]
