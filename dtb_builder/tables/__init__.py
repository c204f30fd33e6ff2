"""Published tables of trained networks, read from files that the user downloads."""

from dtb_builder.tables.nasbench101 import EvaluationData, TrainedCell, read_nasbench101
from dtb_builder.tables.nasbench301 import read_run301
from dtb_builder.tables.nds import read_nds
from dtb_builder.tables.oncenas import read_oncenas
from dtb_builder.tables.retrained import read_retrained
from dtb_builder.tables.trained import Outsider, TrainedGenotype

__all__ = [
    "EvaluationData",
    "Outsider",
    "TrainedCell",
    "TrainedGenotype",
    "read_nasbench101",
    "read_nds",
    "read_oncenas",
    "read_retrained",
    "read_run301",
]
