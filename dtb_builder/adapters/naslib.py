"""A benchmark with the query interface of NASLib."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.evaluation import evaluate_run
from dtb_builder.errors import NoSuchRunError, NotFoundError
from dtb_builder.space.encoding import compact
from dtb_builder.space.listing import GenotypeLike, find_genotype

__all__ = ["NASLibQuery", "naslib_api"]

_DTB_NAMES = {
    "TRAIN_ACCURACY": "train_accuracy",
    "VAL_ACCURACY": "valid_accuracy",
    "TEST_ACCURACY": "test_accuracy",
    "TRAIN_LOSS": "train_loss",
    "VAL_LOSS": "valid_loss",
    "TEST_LOSS": "test_loss",
}


class _Named(Protocol):
    """A member of NASLib's ``Metric``."""

    @property
    def name(self) -> str: ...


class NASLibQuery:
    """A benchmark with the ``query`` method of NASLib's search spaces.

    Where NASLib returns -1 for an unknown value, this raises KeyError. NASLib is installed from its
    source (github.com/automl/NASLib).

    Args:
        benchmark: an open benchmark.
        seed: selects one of several runs of a genotype.
        order_seed: likewise.
    """

    def __init__(
        self, benchmark: Benchmark, *, seed: int | None = None, order_seed: int | None = None
    ) -> None:
        self._benchmark = benchmark
        self._seeds = {"seed": seed, "order_seed": order_seed}

    def query(
        self, genotype: GenotypeLike, metric: _Named, *, epoch: int = -1, full_lc: bool = False
    ) -> Any:
        """A metric of a genotype's run.

        Args:
            genotype: in any spelling.
            metric: a member of NASLib's ``Metric``. Accuracies are in percent, PARAMETERS in
                millions, and TRAIN_TIME is the seconds of training up to the epoch plus one
                evaluation.
            epoch: as NASLib counts: 0 is after the first epoch of training, -1 after the last.
            full_lc: return the learning curve as a list: all epochs, or the first ``epoch``.

        Raises:
            KeyError: there is no such run, metric or epoch, or the metric was not measured then.

        >>> from enum import Enum
        >>> Metric = Enum("Metric", ["VAL_ACCURACY"])       # NASLib's, in naslib.search_spaces.core
        >>> query = NASLibQuery(Benchmark.example(), seed=0)
        >>> round(query.query(Benchmark.example()[0].genotype, Metric.VAL_ACCURACY), 1)
        93.0
        """
        run = self._benchmark.run_of(genotype, **self._seeds)
        if metric.name == "PARAMETERS":
            return run.num_parameters / 1e6
        last = self._benchmark.epoch_row(epoch if epoch < 0 or full_lc else epoch + 1)
        epochs = range(1, last + 1) if full_lc else (last,)
        if metric.name == "TRAIN_TIME":
            values = [evaluate_run(run, each).seconds for each in epochs]
        elif metric.name in _DTB_NAMES:
            name = _DTB_NAMES[metric.name]
            scale = 100 if name.endswith("accuracy") else 1
            values = [scale * run.metric(name, epoch=each) for each in epochs]
        else:
            known = ", ".join((*_DTB_NAMES, "TRAIN_TIME", "PARAMETERS"))
            raise NotFoundError(f"no metric {metric.name}: there are {known}")
        return values if full_lc else values[0]


def naslib_api(benchmark: Benchmark) -> dict[str, Any]:
    """What ``NasBench301SearchSpace.query`` takes as ``dataset_api``.

    NASLib then draws genotypes of the benchmark (``load_labeled=True``) and answers with its curves
    after the evaluated epochs, the means over seeds; ``nb301_model`` answers for the last epoch
    of any other genotype that NASLib asks for, and raises KeyError where the benchmark has no such
    run. Accuracies are in percent. A genotype is left out if its curves have gaps or one of its
    runs diverged: its means would be over fewer seeds from there on.

    >>> api = naslib_api(Benchmark.example())
    >>> len(api["nb301_arches"]), sorted(api["nb301_data"][api["nb301_arches"][0]])
    (6, ['runtime', 'train_losses', 'val_accuracies'])
    """
    groups = benchmark.by_genotype()
    losses, accuracies, training, evaluation = (
        groups.mean(name).mean[:, 1:].filled(np.nan)
        for name in ("train_loss", "valid_accuracy", "train_seconds", "evaluation_seconds")
    )
    epochs = ~np.isnan(accuracies).all(axis=0)
    curves = np.stack([losses, 100 * accuracies], axis=1)[..., epochs]
    seconds = training.sum(axis=1) + evaluation[:, -1]
    num_ended = groups.mean("train_loss", epoch=-1).count
    data = {
        compact(genotype): {
            "train_losses": curves[row, 0].tolist(),
            "val_accuracies": curves[row, 1].tolist(),
            "runtime": float(seconds[row]),
        }
        for row, genotype in enumerate(groups.genotypes)
        if not np.isnan([*curves[row].flat, seconds[row]]).any()
        and num_ended[row] == groups.positions[row].count()
    }
    models = [_Model(data, lambda found: found["val_accuracies"][-1])]
    models.append(_Model(data, lambda found: found["runtime"]))
    return {"nb301_arches": list(data), "nb301_data": data, "nb301_model": models}


class _Model:
    """Answers as a surrogate of NAS-Bench-301 does, from what was trained."""

    def __init__(self, data: dict[Any, Any], answer: Callable[[Any], float]) -> None:
        self._data = data
        self._answer = answer

    def predict(self, config: GenotypeLike, representation: str = "genotype") -> float:
        assert representation == "genotype", representation
        key = compact(find_genotype(config).canonical())
        if key not in self._data:
            raise NoSuchRunError(f"the benchmark has no whole curve of {find_genotype(config)}")
        return self._answer(self._data[key])
