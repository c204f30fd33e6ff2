"""A benchmark's metrics as an xarray dataset with the dimensions run and epoch."""

import numpy as np
import xarray

from dtb_builder.dataset.query import Benchmark
from dtb_builder.record import METRICS
from dtb_builder.space import Genotype

__all__ = ["labelled"]


def labelled(benchmark: Benchmark) -> xarray.Dataset:
    """Every metric, float64 of shape (run, epoch), NaN where not measured.

    The coordinates of runs are their numbers, genotypes as text, seeds and sizes.
    """
    metrics = {
        name: xarray.Variable(
            ("run", "epoch"), benchmark.array(name).filled(np.nan), {"meaning": meaning}
        )
        for name, meaning in METRICS.items()
    }
    facts = {
        "genotype": [str(Genotype.from_array(array)) for array in benchmark.genotypes],
        "seed": benchmark.seeds,
        "order_seed": benchmark.order_seeds,
        "num_parameters": benchmark.num_parameters,
        "multiply_accumulates": benchmark.multiply_accumulates,
    }
    coordinates = {name: ("run", values) for name, values in facts.items()}
    coordinates |= {"run": benchmark.numbers, "epoch": np.arange(benchmark.num_epochs + 1)}
    return xarray.Dataset(metrics, coordinates, {"dtb_provenance": benchmark.provenance_text})
