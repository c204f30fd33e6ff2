"""The DTB file format: its schema, its writers and its readers; numpy and h5py, no torch."""

from dtb_builder.dataset.evaluation import Budget, Evaluation
from dtb_builder.dataset.query import Benchmark
from dtb_builder.dataset.run import Run

__all__ = ["Benchmark", "Budget", "Evaluation", "Run"]
