"""The thirty-line search methods of examples/, on runs that nobody trained."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from dataset.conftest import make_journal, make_shard

from dtb_builder import Benchmark, Budget
from dtb_builder.dataset.merge import merge
from dtb_builder.space import sample_uniform

__all__ = ["make_journal", "make_shard"]

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(number: int, epoch: int) -> dict[str, float]:
    times = {"evaluation_seconds": 0.5} | ({"train_seconds": 1.0} if epoch else {})
    return times | {"valid_accuracy": (7 * number % 12) / 12 + epoch / 100}


@pytest.fixture
def bench(make_shard: Callable[..., Path], tmp_path: Path) -> Benchmark:
    """Twelve genotypes, the first from two seeds."""
    options = {"kept": (), "steps": (), "metrics": measured}
    again = {"genotype": sample_uniform(0, 0), "seed": 1}
    shards = [
        make_shard("runs", range(12), **options),
        make_shard("again", [12], **options, **again),
    ]
    list(merge(shards, tmp_path / "dtb.h5"))
    return Benchmark(tmp_path / "dtb.h5")


def searches(name: str, bench: Benchmark, budget: Budget, seed: int) -> list:
    rng = np.random.default_rng(seed)
    if name == "random_search":
        return example(name).random_search(bench, budget, rng)
    return example(name).evolve(bench, budget, rng, population=4, sample=2)


@pytest.mark.parametrize("name", ["random_search", "regularised_evolution"])
def test_a_search_spends_its_budget_and_repeats_nothing(name: str, bench: Benchmark) -> None:
    history = searches(name, bench, Budget(seconds=25), seed=0)
    assert len(history) == 10  # of 2.5 s each: two epochs of training, one evaluation
    assert len({evaluation.run.genotype for evaluation in history}) == 10


@pytest.mark.parametrize("name", ["random_search", "regularised_evolution"])
def test_a_search_ends_when_everything_is_known_and_knows_the_best(
    name: str, bench: Benchmark
) -> None:
    history = searches(name, bench, Budget(seconds=1e9), seed=1)
    best = max(history, key=lambda evaluation: evaluation.metrics["valid_accuracy"])
    assert len(history) == 12
    assert best.run == bench.top(1, by="valid_accuracy", epoch=-1)[0]


@pytest.mark.parametrize("name", ["random_search", "regularised_evolution"])
def test_a_search_depends_on_its_generator_alone(name: str, bench: Benchmark) -> None:
    def numbers(seed: int) -> list[int]:
        return [one.run.number for one in searches(name, bench, Budget(seconds=40), seed)]

    assert numbers(0) == numbers(0)
    assert numbers(0) != numbers(1)


def test_optuna_searches_the_benchmark() -> None:
    optuna = pytest.importorskip("optuna", reason="Optuna is not installed")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Benchmark.example() as bench:
        one, same = (
            example("with_optuna").optimise(
                bench, optuna.samplers.RandomSampler(seed=0), num_trials=20
            )
            for _ in range(2)
        )
        assert len(one) == 20
        assert [each.run for each in one] == [each.run for each in same]
        assert {each.run.seed for each in one} == {0, 1}


def test_the_methods_are_short() -> None:
    for path in EXAMPLES.glob("*.py"):
        method = path.read_text().partition("\ndef ")[2].partition("\nif __name__")[0]
        assert len(method.splitlines()) <= 30
