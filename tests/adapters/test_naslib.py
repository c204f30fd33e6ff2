from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

import pytest
from dataset.conftest import make_journal, make_shard

from dtb_builder import Benchmark
from dtb_builder.adapters.naslib import NASLibQuery, naslib_api
from dtb_builder.dataset.merge import merge
from dtb_builder.space import sample_uniform
from dtb_builder.space.encoding import compact

__all__ = ["make_journal", "make_shard"]


class Metric(Enum):
    """NASLib's own has these names, and more."""

    TRAIN_ACCURACY = auto()
    VAL_ACCURACY = auto()
    VAL_LOSS = auto()
    TRAIN_TIME = auto()
    PARAMETERS = auto()
    HP = auto()


def measured(number: int, epoch: int) -> dict[str, float]:
    times = {"evaluation_seconds": 0.5} | ({"train_seconds": 1.0} if epoch else {})
    return times | {"valid_accuracy": epoch / 4, "valid_loss": 3.0 - epoch}


@pytest.fixture
def asked(make_shard: Callable[..., Path]) -> NASLibQuery:
    return NASLibQuery(Benchmark(make_shard("runs", [3], metrics=measured)))


def test_it_answers_in_the_units_of_naslib(asked: NASLibQuery) -> None:
    genotype = sample_uniform(0, 3)
    assert asked.query(genotype, Metric.VAL_ACCURACY) == 50.0
    assert asked.query(genotype, Metric.TRAIN_TIME, full_lc=True) == [1.5, 2.5]
    assert asked.query(genotype, Metric.PARAMETERS) == 30 / 1e6


def test_its_epochs_are_places_in_the_learning_curve_as_in_naslib(asked: NASLibQuery) -> None:
    genotype = sample_uniform(0, 3)
    curve = asked.query(genotype, Metric.VAL_ACCURACY, full_lc=True)
    assert curve == [25.0, 50.0]
    for epoch in (0, 1, -1):
        assert asked.query(genotype, Metric.VAL_ACCURACY, epoch=epoch) == curve[epoch]
    for epoch in (1, 2):
        assert (
            asked.query(genotype, Metric.VAL_ACCURACY, epoch=epoch, full_lc=True) == curve[:epoch]
        )


def test_it_makes_nothing_up(asked: NASLibQuery) -> None:
    for genotype, metric, epoch, message in (
        (sample_uniform(0, 3), Metric.HP, -1, "no metric HP: there are .*, PARAMETERS"),
        (sample_uniform(0, 3), Metric.TRAIN_ACCURACY, -1, "was not measured at epoch 2"),
        (sample_uniform(0, 3), Metric.VAL_LOSS, 2, "no epoch 3"),
        (sample_uniform(0, 3), Metric.VAL_LOSS, -2, "no epoch -2"),
        (sample_uniform(0, 4), Metric.VAL_LOSS, -1, "is of [0-9a-f]{8}"),
    ):
        with pytest.raises(KeyError, match=message):
            asked.query(genotype, metric, epoch=epoch)


def test_one_of_several_seeds_is_asked_by_name(
    make_shard: Callable[..., Path], tmp_path: Path
) -> None:
    options = {"metrics": measured, "kept": (), "genotype": sample_uniform(0, 3)}
    list(merge([make_shard(str(n), [n], seed=n, **options) for n in (1, 2)], tmp_path / "two.h5"))
    benchmark, genotype = Benchmark(tmp_path / "two.h5"), sample_uniform(0, 3)
    assert NASLibQuery(benchmark, seed=2).query(genotype, Metric.VAL_LOSS) == 1.0
    with pytest.raises(KeyError, match="2 runs of this genotype"):
        NASLibQuery(benchmark).query(genotype, Metric.VAL_LOSS)


def test_its_api_has_the_means_over_seeds_and_no_gaps(
    make_shard: Callable[..., Path], tmp_path: Path
) -> None:
    def curves(number: int, epoch: int) -> dict[str, float]:
        losses = {"train_loss": number + epoch} if epoch else {}
        return losses | measured(number, epoch)

    options = {"metrics": curves, "kept": (), "steps": ()}
    twice = [
        make_shard(str(n), [n], seed=n, genotype=sample_uniform(0, 3), **options) for n in (1, 2)
    ]
    diverged = make_shard("gap", [4, 5], diverged={5: 1}, **options)
    one_seed = {"seed": 1, "genotype": sample_uniform(0, 6), "diverged": {7: 1}, **options}
    half = [
        make_shard("half", [7], **one_seed),
        make_shard("other", [6], **one_seed | {"seed": 2}),
    ]
    list(merge([*twice, diverged, *half], tmp_path / "dtb.h5"))

    api = naslib_api(Benchmark(tmp_path / "dtb.h5"))

    keys = [compact(sample_uniform(0, n).canonical()) for n in (3, 4)]
    assert api["nb301_arches"] == list(api["nb301_data"]) == keys
    assert api["nb301_data"][keys[0]] == {
        "train_losses": [2.5, 3.5],
        "val_accuracies": [25.0, 50.0],
        "runtime": 2.5,
    }
    accuracy, runtime = api["nb301_model"]
    asked = {"config": sample_uniform(0, 4), "representation": "genotype"}
    assert (accuracy.predict(**asked), runtime.predict(**asked)) == (50.0, 2.5)
    with pytest.raises(KeyError, match="no whole curve of Genotype"):
        accuracy.predict(config=sample_uniform(0, 5))


def test_the_real_metric_of_naslib_has_these_names() -> None:
    metrics = pytest.importorskip(
        "naslib.search_spaces.core.query_metrics", reason="NASLib is not installed"
    )
    names = {metric.name for metric in metrics.Metric}
    assert {metric.name for metric in Metric} <= names
