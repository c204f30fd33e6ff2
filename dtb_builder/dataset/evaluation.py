"""A benchmark's answer to a search: the metrics and the cost of training a genotype."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from dtb_builder.dataset.run import Run
from dtb_builder.errors import NotMeasuredError
from dtb_builder.record import METRICS

__all__ = ["Budget", "Evaluation", "evaluate_run"]


@dataclass(frozen=True, repr=False)
class Evaluation:
    """A run's metrics and cost after some epochs.

    Attributes:
        run: the run.
        epochs: the number of epochs trained.
        metrics: each metric measured after the last of these epochs, by name.
        seconds: the measured cost: the training steps of these epochs, and one evaluation after
            the last.

    >>> evaluation = bench.evaluate(run, epochs=3)
    >>> evaluation.metrics["valid_accuracy"] == run.metric("valid_accuracy", epoch=3)
    True
    """

    run: Run
    epochs: int
    metrics: Mapping[str, float] = field(hash=False)
    seconds: float

    def __repr__(self) -> str:
        about = f"run {self.run.number} after {self.epochs} epochs and {self.seconds:.6g} s"
        return f"<Evaluation of {about}: {len(self.metrics)} metrics>"


@dataclass(frozen=True)
class Budget:
    """Simulated time that a search may spend; spending returns a new budget.

    Attributes:
        seconds: the total.
        spent: seconds spent so far; the last evaluation may exceed the total.
        num_evaluations: the number of evaluations paid for.

    >>> Budget(seconds=60.0).left
    60.0
    """

    seconds: float
    spent: float = 0.0
    num_evaluations: int = 0

    def __post_init__(self) -> None:
        if not self.seconds >= 0 or not self.spent >= 0 or self.num_evaluations < 0:
            raise ValueError(f"a budget counts from 0 up, got {self}")

    @property
    def left(self) -> float:
        """Seconds, at least 0.

        >>> Budget(seconds=60.0, spent=50.0).left
        10.0
        """
        return max(0.0, self.seconds - self.spent)

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left.

        >>> Budget(seconds=60.0, spent=61.0).is_spent
        True
        """
        return self.left == 0

    def after(self, evaluation: Evaluation, *, since: Evaluation | None = None) -> "Budget":
        """The budget after paying for an evaluation.

        Args:
            evaluation: the evaluation to pay for.
            since: an earlier evaluation of the same run, from which the training was resumed. Then
                only the later epochs and the new evaluation are paid.

        Raises:
            ValueError: ``since`` is of another run, or does not have fewer epochs.

        >>> Budget(seconds=60.0).after(bench.evaluate(run, epochs=3)).num_evaluations
        1
        """
        seconds = evaluation.seconds
        if since is not None:
            if since.run != evaluation.run or since.epochs >= evaluation.epochs:
                raise ValueError(
                    f"run {evaluation.run.number} after {evaluation.epochs} epochs does not go on "
                    f"from run {since.run.number} after {since.epochs}"
                )
            seconds -= since.seconds - since.metrics["evaluation_seconds"]
        return replace(self, spent=self.spent + seconds, num_evaluations=self.num_evaluations + 1)


def evaluate_run(run: Run, epoch: int) -> Evaluation:
    """A run's evaluation after an epoch; 0 is the initialisation.

    Raises:
        KeyError: there is no such epoch, or its times were not measured.
    """
    training = run.curve("train_seconds")[1 : epoch + 1]
    if np.ma.is_masked(training):
        raise NotMeasuredError(f"train_seconds of run {run.number} were not measured at all epochs")
    seconds = math.fsum(training.tolist()) + run.metric("evaluation_seconds", epoch=epoch)
    values = {name: run.curve(name)[epoch] for name in METRICS}
    metrics = {name: float(value) for name, value in values.items() if value is not np.ma.masked}
    return Evaluation(run, epoch, metrics, seconds)
