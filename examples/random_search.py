"""Random search in a benchmark's genotypes, until its simulated time is spent.

python examples/random_search.py dtb.h5 3600
"""

import sys

import numpy as np

from dtb_builder import Benchmark, Budget, Evaluation


def random_search(bench: Benchmark, budget: Budget, rng: np.random.Generator) -> list[Evaluation]:
    """The evaluations in the order in which they were made."""
    history: list[Evaluation] = []
    for i in rng.permutation(len(genotypes := bench.by_genotype().genotypes)):
        if budget.is_spent:
            break
        runs = bench.runs_of(genotypes[i])
        history.append(bench.evaluate(runs[rng.integers(len(runs))], epochs=bench.num_epochs))
        budget = budget.after(history[-1])
    return history


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with Benchmark(sys.argv[1]) as benchmark:
        found = random_search(benchmark, Budget(float(sys.argv[2])), np.random.default_rng(0))
        best = max(found, key=lambda evaluation: evaluation.metrics["valid_accuracy"])
        print(len(found), best.metrics["valid_accuracy"], best.run.genotype)
