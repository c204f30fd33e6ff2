from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset.conftest import make_journal, make_shard

from dtb_builder import Benchmark
from dtb_builder.adapters.syne_tune import ELAPSED, FIDELITY, tabular_blackbox
from dtb_builder.dataset.merge import merge
from dtb_builder.space import sample_uniform
from dtb_builder.space.configuration import configuration_of

__all__ = ["make_journal", "make_shard"]

# Syne Tune 0.16 asks pandas 3.1 for something that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

pytest.importorskip(
    "syne_tune.blackbox_repository.blackbox_tabular", reason="Syne Tune is not installed"
)


def measured(number: int, epoch: int) -> dict[str, float]:
    times = {"evaluation_seconds": 0.5} | ({"train_seconds": 1.0} if epoch else {})
    return times | {"valid_loss": number - epoch / 4}


def test_a_blackbox_says_what_the_benchmark_says(make_shard: Callable[..., Path]) -> None:
    with Benchmark(make_shard("runs", [3, 5, 7], metrics=measured)) as benchmark:
        blackbox = tabular_blackbox(benchmark, metrics=("valid_loss",))
    for number in (3, 5, 7):
        configuration = configuration_of(sample_uniform(0, number))
        found = blackbox(configuration, fidelity={FIDELITY: 2}, seed=0)
        assert found == {"valid_loss": number - 0.5, ELAPSED: 3.0}
    assert blackbox(configuration).shape == (2, 2)


def test_the_seeds_of_a_genotype_are_its_runs(
    make_shard: Callable[..., Path], tmp_path: Path
) -> None:
    options = {"genotype": sample_uniform(0, 0), "metrics": measured}
    shards = [make_shard(str(n), [n], seed=n, **options) for n in (1, 2)]
    list(merge(shards, tmp_path / "dtb.h5"))
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        blackbox = tabular_blackbox(benchmark, metrics=("valid_loss",))
        configuration = configuration_of(sample_uniform(0, 0))
        found = [blackbox(configuration, {FIDELITY: 1}, seed)["valid_loss"] for seed in (0, 1)]
        assert np.allclose(found, [0.75, 1.75])
    list(merge([*shards, make_shard("3", [3], metrics=measured)], tmp_path / "odd.h5"))
    with Benchmark(tmp_path / "odd.h5") as odd:
        blackbox = tabular_blackbox(odd, metrics=("valid_loss",))  # seeds 0, 1 and 2
    losses = [blackbox(configuration, {FIDELITY: 1}, seed)["valid_loss"] for seed in (0, 1, 2)]
    assert np.allclose(losses, [np.nan, 0.75, 1.75], equal_nan=True)
