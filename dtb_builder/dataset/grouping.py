"""Metrics of a benchmark as arrays with one axis for genotypes and one for seeds."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtb_builder.remembered import remembered
from dtb_builder.space import Genotype

__all__ = ["ByGenotype", "Means", "grouped"]


@dataclass(frozen=True, eq=False)
class Means:
    """A metric's means over the seeds of each genotype; a measured NaN makes the mean NaN.

    Attributes:
        genotypes: the genotypes.
        mean: masked where nothing was measured, shape (genotypes,) or (genotypes, epochs).
        deviation: sample standard deviation over seeds (ddof=1); masked where fewer than two values
            were measured.
        count: the number of measured values.

    >>> float(bench.mean("test_accuracy", epoch=-1).mean[0].round(3))
    0.898
    """

    genotypes: tuple[Genotype, ...]
    mean: np.ma.MaskedArray
    deviation: np.ma.MaskedArray
    count: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ByGenotype:
    """The runs of a benchmark, arranged by genotype and seeds.

    Attributes:
        cells: every genotype once, in the order of its first run, as `Genotype.to_array`.
        seeds: the seed and the order seed of each column.
        positions: the runs' positions in the benchmark, shape (genotypes, seeds), masked where
            there is no run. Several runs of one genotype with the same seeds, such as branches,
            have separate columns.
        array_of: returns a metric of all runs, as `Benchmark.array`.
    """

    cells: NDArray[np.uint8]
    seeds: tuple[tuple[int, int], ...]
    positions: np.ma.MaskedArray
    array_of: Callable[..., np.ma.MaskedArray]

    @remembered
    def genotypes(self) -> tuple[Genotype, ...]:
        """Every genotype once, in the order of its first run.

        >>> bench.by_genotype().genotypes[0]
        <Genotype f9a0494a>
        """
        return tuple(map(Genotype.from_array, self.cells))

    def array(self, metric: str, *, epoch: int | None = None) -> np.ma.MaskedArray:
        """A metric, masked where there is no run or the metric was not measured.

        Args:
            metric: a name of `dtb_builder.record.METRICS`.
            epoch: 0 to num_epochs, or -1 for the last; None for all.

        Returns:
            float64, shape (genotypes, seeds), or (genotypes, seeds, num_epochs + 1).

        Raises:
            KeyError: there is no such metric or epoch.

        >>> bench.by_genotype().array("test_accuracy", epoch=-1).shape
        (6, 2)
        """
        values = self.array_of(metric, epoch=epoch)[self.positions.filled(0)]
        values[np.ma.getmaskarray(self.positions)] = np.ma.masked
        return values

    def mean(self, metric: str, *, epoch: int | None = None) -> Means:
        """A metric's means over seeds; arguments and errors as in `array`.

        >>> bench.by_genotype().mean("test_accuracy", epoch=-1).deviation.shape
        (6,)
        """
        values = self.array(metric, epoch=epoch)
        count = values.count(axis=1)
        deviation = np.ma.masked_where(count < 2, values.std(axis=1, ddof=1))
        return Means(self.genotypes, values.mean(axis=1), deviation, count)


def grouped(
    cells: NDArray[np.uint8],
    numbers: NDArray[np.int64],
    seeds: NDArray[np.int64],
    array_of: Callable[..., np.ma.MaskedArray],
) -> ByGenotype:
    """Runs by genotype and seeds.

    Args:
        cells: each run's `Genotype.to_array`, shape (runs, 2, 8, 2).
        numbers: equal for two runs if and only if their genotypes are equal, shape (runs,).
        seeds: seed and order seed of each run, shape (runs, 2).
        array_of: as in `ByGenotype`.
    """
    _, first, group = np.unique(numbers, return_index=True, return_inverse=True)
    row = np.argsort(np.argsort(first))[group]  # by first run instead of by number
    key = np.column_stack([row, seeds])
    order = np.lexsort(key.T[::-1])
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(key[order], axis=0) != 0).any(axis=1)
    at = np.arange(len(order))
    repeated = np.empty(len(order), np.int64)
    repeated[order] = at - np.maximum.accumulate(np.where(is_new, at, 0))
    columns, column = np.unique(np.column_stack([repeated, seeds]), axis=0, return_inverse=True)
    shape = len(first), len(columns)
    positions = np.ma.masked_array(np.zeros(shape, np.intp), np.ones(shape, bool))
    positions[row, column.reshape(-1)] = at
    pairs = tuple((int(seed), int(order_seed)) for _, seed, order_seed in columns)
    return ByGenotype(cells[np.sort(first)], pairs, positions, array_of)
