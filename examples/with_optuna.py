"""Optuna, with any of its samplers, over the genotypes of a benchmark.

python examples/with_optuna.py dtb.h5 50
"""

import sys

import optuna

from dtb_builder import Benchmark, Evaluation
from dtb_builder.space import OPERATIONS


def optimise(
    bench: Benchmark, sampler: optuna.samplers.BaseSampler, *, num_trials: int
) -> list[Evaluation]:
    """The evaluations in the order in which they were made.

    Optuna chooses numbers of operations, and gets the genotype of the benchmark that is nearest to
    its choice; runs of several seeds take turns.
    """
    genotypes = bench.by_genotype().genotypes
    counts = [genotype.operation_counts() for genotype in genotypes]
    history: list[Evaluation] = []

    def objective(trial: optuna.Trial) -> float:
        wanted = {name: trial.suggest_int(name, 0, 16) for name in OPERATIONS}
        off = [sum(abs(count[name] - wanted[name]) for name in OPERATIONS) for count in counts]
        runs = bench.runs_of(genotypes[off.index(min(off))])
        run = runs[trial.number % len(runs)]
        history.append(bench.evaluate(run, epochs=run.num_epochs))
        trial.set_user_attr("genotype", str(run.genotype))
        return history[-1].metrics["valid_accuracy"]

    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=num_trials)
    return history


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with Benchmark(sys.argv[1]) as benchmark:
        sampler = optuna.samplers.TPESampler(seed=0)
        found = optimise(benchmark, sampler, num_trials=int(sys.argv[2]))
        best = max(found, key=lambda evaluation: evaluation.metrics["valid_accuracy"])
        print(len(found), best.metrics["valid_accuracy"], best.run.genotype)
