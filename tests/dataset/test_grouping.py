from collections.abc import Callable
from pathlib import Path

import pytest

from dtb_builder import Benchmark
from dtb_builder.dataset.merge import merge
from dtb_builder.space import sample_uniform

SEEDS = {0: (4, 0, 0), 1: (2, 1, 1), 2: (4, 1, 1), 3: (2, 0, 7), 4: (2, 0, 0)}
"""Of each run the genotype's number and the two seeds."""


@pytest.fixture
def benchmark(make_shard: Callable[..., Path], tmp_path: Path) -> Benchmark:
    shards = [
        make_shard(
            str(n), [n], kept=(), steps=(), genotype=sample_uniform(0, g), seed=s, order_seed=o
        )
        for n, (g, s, o) in SEEDS.items()
    ]
    list(merge(shards, tmp_path / "dtb.h5"))
    return Benchmark(tmp_path / "dtb.h5")


def test_metrics_stand_by_genotype_seed_and_epoch(benchmark: Benchmark) -> None:
    groups = benchmark.by_genotype()

    assert groups.genotypes == (sample_uniform(0, 4), sample_uniform(0, 2))  # by first run
    assert groups.seeds == ((0, 0), (0, 7), (1, 1))
    assert groups.positions.tolist() == [[0, None, 2], [4, 3, 1]]
    accuracies = groups.array("valid_accuracy")
    assert accuracies.shape == (2, 3, 3)
    for g, genotype in enumerate(groups.genotypes):
        for s, seeds in enumerate(groups.seeds):
            here = accuracies[g, s].tolist()
            there = (genotype, *seeds) in benchmark
            wanted = benchmark[genotype, *seeds].curve("valid_accuracy").tolist() if there else None
            assert here == (wanted or [None] * 3)
    assert groups.array("train_loss", epoch=0).count() == 0
    assert groups.array("valid_accuracy", epoch=-1).tolist() == accuracies[..., -1].tolist()


def test_means_say_how_many_seeds_they_are_of(benchmark: Benchmark) -> None:
    means = benchmark.mean("valid_accuracy", epoch=-1)  # (number + 2) / 100

    assert means.genotypes == (sample_uniform(0, 4), sample_uniform(0, 2))
    assert means.count.tolist() == [2, 3]
    assert means.mean.tolist() == pytest.approx([0.03, 14 / 300])
    assert means.deviation.tolist() == pytest.approx([0.02**0.5 / 10, 0.0152752523])
    assert benchmark.mean("valid_accuracy").mean.shape == (2, 3)
    assert benchmark.mean("train_loss", epoch=0).mean.tolist() == [None, None]
    with pytest.raises(KeyError, match="no metric 'accuracy'"):
        benchmark.mean("accuracy")


def test_one_run_has_no_deviation(make_shard: Callable[..., Path]) -> None:
    with Benchmark(make_shard("one", [1, 2])) as benchmark:
        assert benchmark.mean("valid_accuracy", epoch=0).deviation.tolist() == [None, None]


def test_runs_of_the_same_seeds_stand_side_by_side(
    make_shard: Callable[..., Path], tmp_path: Path
) -> None:
    same = [make_shard(str(n), [n], kept=(), genotype=sample_uniform(0, 0)) for n in (1, 2)]
    list(merge([*same, make_shard("3", [3], kept=())], tmp_path / "dtb.h5"))
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        groups = benchmark.by_genotype()
        assert groups.seeds == ((0, 0), (0, 0))
        assert groups.positions.tolist() == [[0, 1], [2, None]]
