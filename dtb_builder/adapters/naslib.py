"""A benchmark with the query interface of NASLib."""

from typing import Any, Protocol

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.evaluation import evaluate_run
from dtb_builder.errors import NotFoundError
from dtb_builder.space import Genotype

__all__ = ["NASLibQuery"]

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

    Where NASLib returns -1 for an unknown value, this raises KeyError.

    Args:
        benchmark: an open benchmark with one run of each genotype.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark

    def query(
        self, genotype: Genotype | str, metric: _Named, *, epoch: int = -1, full_lh: bool = False
    ) -> Any:
        """A metric of a genotype's run.

        Args:
            genotype: in any spelling.
            metric: a member of NASLib's ``Metric``. Accuracies are in percent, PARAMETERS in
                millions, and TRAIN_TIME is the seconds of training up to the epoch plus one
                evaluation.
            epoch: the epoch; -1 is the last, as in NASLib.
            full_lh: return a list with all epochs from 1 to ``epoch``.

        Raises:
            KeyError: there is no such run, metric or epoch, or the metric was not measured then.
        """
        run = self._benchmark[genotype]
        last = self._benchmark.epoch_row(epoch)
        if metric.name == "PARAMETERS":
            return run.num_parameters / 1e6
        epochs = range(1, last + 1) if full_lh else (last,)
        if metric.name == "TRAIN_TIME":
            values = [evaluate_run(run, each).seconds for each in epochs]
        elif metric.name in _DTB_NAMES:
            name = _DTB_NAMES[metric.name]
            scale = 100 if name.endswith("accuracy") else 1
            values = [scale * run.metric(name, epoch=each) for each in epochs]
        else:
            raise NotFoundError(
                f"no metric {metric.name}: there are {', '.join(_DTB_NAMES)}, TRAIN_TIME"
            )
        return values if full_lh else values[0]
