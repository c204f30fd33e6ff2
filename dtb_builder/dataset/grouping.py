"""The runs of a benchmark by genotype and seeds: its metrics as arrays with an axis for each."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtb_builder.remembered import remembered
from dtb_builder.space import Genotype

__all__ = ["ByGenotype", "Means", "grouped"]


@dataclass(frozen=True, eq=False)
class Means:
    """A metric's means over the seeds of each genotype; NaN counts as any other value.

    Attributes:
        genotypes: whose they are.
        mean: masked where nothing was measured, shape (genotypes,) or (genotypes, epochs).
        deviation: between seeds, with one degree of freedom taken off; masked where fewer than two
            were measured.
        count: how many were measured.
    """

    genotypes: tuple[Genotype, ...]
    mean: np.ma.MaskedArray
    deviation: np.ma.MaskedArray
    count: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ByGenotype:
    """Which run a genotype has from which seeds.

    Attributes:
        cells: every genotype once, in the order of its first run, as `Genotype.to_array`.
        seeds: of each column, the seed and the order seed.
        positions: of the runs in the benchmark, shape (genotypes, seeds), masked where there is
            none. Several runs of one genotype and the same seeds, as branches may be, stand in
            columns of their own.
        array_of: a metric of all runs, as `Benchmark.array`.
    """

    cells: NDArray[np.uint8]
    seeds: tuple[tuple[int, int], ...]
    positions: np.ma.MaskedArray
    array_of: Callable[..., np.ma.MaskedArray]

    @remembered
    def genotypes(self) -> tuple[Genotype, ...]:
        """Every genotype once, in the order of its first run."""
        return tuple(map(Genotype.from_array, self.cells))

    def array(self, metric: str, *, epoch: int | None = None) -> np.ma.MaskedArray:
        """A metric, masked where there is no run or it was not measured.

        Args:
            metric: a name of `dtb_builder.record.METRICS`.
            epoch: 0 to num_epochs, or -1 for the last; None for all.

        Returns:
            float64, shape (genotypes, seeds), or (genotypes, seeds, num_epochs + 1).

        Raises:
            KeyError: there is no such metric or epoch.
        """
        values = self.array_of(metric, epoch=epoch)[self.positions.filled(0)]
        values[np.ma.getmaskarray(self.positions)] = np.ma.masked
        return values

    def mean(self, metric: str, *, epoch: int | None = None) -> Means:
        """A metric's means over seeds; takes and raises what `array` does."""
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
        cells: of each run, as `Genotype.to_array`, shape (runs, 2, 8, 2).
        numbers: equal for two runs just when their genotypes are, shape (runs,).
        seeds: seed and order seed of each run, shape (runs, 2).
        array_of: what `ByGenotype` keeps.
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
