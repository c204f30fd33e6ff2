import copy
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dtb_builder import NAMED, Benchmark, Budget
from dtb_builder.dataset.merge import merge
from dtb_builder.space import sample_uniform

MakeShard = Callable[..., Path]


def timed(number: int, epoch: int) -> dict[str, float]:
    """Evaluating takes a second, training number * 10."""
    measured = {"valid_accuracy": epoch / 10, "evaluation_seconds": 1.0}
    return measured | ({"train_seconds": 10.0 * number} if epoch else {})


@pytest.fixture
def timed_shard(make_shard: MakeShard) -> Path:
    return make_shard("timed", [3, 5], metrics=timed)


def test_an_evaluation_costs_the_training_up_to_it_and_one_evaluation(timed_shard: Path) -> None:
    with Benchmark(timed_shard) as benchmark:
        genotype = sample_uniform(0, 3)
        costs = [benchmark.evaluate(genotype, epochs=epochs).seconds for epochs in (0, 1, 2)]
        assert costs == [1.0, 31.0, 61.0]


def test_an_evaluation_has_what_was_measured_then(timed_shard: Path) -> None:
    with Benchmark(timed_shard) as benchmark:
        evaluation = benchmark.evaluate(str(sample_uniform(0, 5)), epochs=2)
        assert (evaluation.run.number, evaluation.epochs) == (5, 2)
        assert evaluation.metrics == {
            "valid_accuracy": 0.2,
            "evaluation_seconds": 1.0,
            "train_seconds": 50.0,
        }
        assert "train_seconds" not in benchmark.evaluate(sample_uniform(0, 5), epochs=0).metrics


def test_what_was_not_trained_or_timed_cannot_be_evaluated(shard: Path, timed_shard: Path) -> None:
    with Benchmark(shard) as untimed, pytest.raises(KeyError, match="train_seconds of run 3 were"):
        untimed.evaluate(sample_uniform(0, 3), epochs=1)
    with Benchmark(timed_shard) as benchmark:
        with pytest.raises(KeyError, match="is of DARTS_V2"):
            benchmark.evaluate("DARTS_V2", epochs=1)
        for epochs in (3, -1):
            with pytest.raises(KeyError, match=f"epochs, not {epochs}"):
                benchmark.evaluate(sample_uniform(0, 3), epochs=epochs)


def test_several_runs_of_a_genotype_are_told_apart_by_seed(
    make_shard: MakeShard, tmp_path: Path
) -> None:
    genotype = NAMED["DARTS_V2"]
    options = {"genotype": genotype, "metrics": timed}
    shards = [make_shard(str(n), [n], seed=10 * n, **options) for n in (1, 2)]
    list(merge(shards, tmp_path / "dtb.h5"))
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        assert benchmark.evaluate(genotype, epochs=1, seed=20).run.number == 2
        with pytest.raises(KeyError, match="2 runs of this genotype"):
            benchmark.evaluate(genotype, epochs=1)
        with pytest.raises(
            KeyError, match="no run of seed 30 among those of seed/order seed 10/10, 20/20"
        ):
            benchmark.evaluate(genotype, epochs=1, seed=30)


def test_a_budget_is_a_value_that_spending_does_not_change(timed_shard: Path) -> None:
    with Benchmark(timed_shard) as benchmark:
        evaluation = benchmark.evaluate(sample_uniform(0, 3), epochs=1)
    before = Budget(seconds=50)
    once = before.after(evaluation)
    twice = once.after(evaluation)
    assert (before.left, before.num_evaluations) == (50, 0)
    assert (once.left, once.num_evaluations, once.is_spent) == (19, 1, False)
    assert (twice.left, twice.spent, twice.is_spent) == (0, 62, True)


def test_a_training_that_goes_on_costs_what_is_new_of_it(timed_shard: Path) -> None:
    with Benchmark(timed_shard) as benchmark:
        first, second = (benchmark.evaluate(benchmark[0], epochs=epochs) for epochs in (1, 2))
        other = benchmark.evaluate(benchmark[1], epochs=1)
    budget = Budget(seconds=100).after(first)
    assert budget.after(second, since=first).spent == 31 + 30 + 1
    for wrong in (second, other):
        with pytest.raises(ValueError, match="run 3 after 2 epochs does not go on from run"):
            budget.after(second, since=wrong)


def test_a_run_is_evaluated_with_its_own_seeds(timed_shard: Path) -> None:
    with Benchmark(timed_shard) as benchmark:
        assert benchmark.evaluate(benchmark[1], epochs=1).run.number == 5
        with pytest.raises(TypeError, match="a run has its own seeds"):
            benchmark.evaluate(benchmark[1], epochs=1, seed=0)


@pytest.mark.parametrize("wrong", [{"seconds": -1.0}, {"seconds": float("nan")}])
def test_a_budget_below_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a budget counts from 0 up"):
        Budget(**wrong)


def test_an_evaluation_can_be_sent_copied_and_counted(timed_shard: Path) -> None:
    with Benchmark(timed_shard) as benchmark:
        evaluation = benchmark.evaluate(sample_uniform(0, 3), epochs=1)
        for other in (pickle.loads(pickle.dumps(evaluation)), copy.deepcopy(evaluation)):
            assert other == evaluation
        assert len({evaluation, benchmark.evaluate(sample_uniform(0, 3), epochs=1)}) == 1
        assert asdict(evaluation)["metrics"] == evaluation.metrics
