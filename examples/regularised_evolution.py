"""Regularised evolution (Real et al., 2019): the oldest dies, a child of the fittest is born.

python examples/regularised_evolution.py dtb.h5 3600
"""

import sys
from collections import deque

import numpy as np

from dtb_builder import Benchmark, Budget, Evaluation


def evolve(
    bench: Benchmark, budget: Budget, rng: np.random.Generator, *, population: int, sample: int
) -> list[Evaluation]:
    """The evaluations as they were made; a child is one of the genotypes nearest its parent."""
    history: list[Evaluation] = []
    alive: deque[Evaluation] = deque(maxlen=population)
    groups = bench.by_genotype()
    unseen = np.ones(len(groups.genotypes), bool)
    while unseen.any() and not budget.is_spent:
        rows = np.flatnonzero(unseen)
        if len(alive) == population:
            rivals = [alive[i] for i in rng.choice(population, sample, replace=False)]
            parent = max(rivals, key=lambda evaluation: evaluation.metrics["valid_accuracy"])
            changes = groups.cells[rows] != parent.run.genotype.to_array()
            rows = rows[np.argsort(changes.sum((1, 2, 3)), kind="stable")[:5]]
        row = rng.choice(rows)
        unseen[row] = False
        runs = bench.runs_of(groups.genotypes[row])
        alive.append(bench.evaluate(runs[rng.integers(len(runs))], epochs=bench.num_epochs))
        history.append(alive[-1])
        budget = budget.after(history[-1])
    return history


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with Benchmark(sys.argv[1]) as benchmark:
        budget, rng = Budget(float(sys.argv[2])), np.random.default_rng(0)
        found = evolve(benchmark, budget, rng, population=10, sample=3)
        best = max(found, key=lambda evaluation: evaluation.metrics["valid_accuracy"])
        print(len(found), best.metrics["valid_accuracy"], best.run.genotype)
