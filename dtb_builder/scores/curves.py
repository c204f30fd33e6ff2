"""Scores from a run's curves, which cost nothing beyond the training itself."""

import numpy as np

__all__ = ["training_speed"]


def training_speed(train_losses: np.ma.MaskedArray, *, epoch: int) -> np.ma.MaskedArray:
    """Minus the sum of the training losses of epochs 1 to ``epoch``: the more, the faster.

    Source: Ru et al., Speedy Performance Estimation for Neural Architecture Search, NeurIPS 2021,
    whose TSE is the sum, with the sign that makes the better network's score the larger one.

    Args:
        train_losses: one row per run and a column per epoch, epoch 0 included, as
            ``Benchmark.array("train_loss")`` gives them.
        epoch: the last one to count, at least 1.

    Returns:
        Shape (runs,), masked where a loss is.
    """
    num_epochs = train_losses.shape[1] - 1
    if not 1 <= epoch <= num_epochs:
        raise ValueError(f"epoch must be in 1..{num_epochs}, got {epoch}")
    counted = train_losses[:, 1 : epoch + 1]
    sums = counted.sum(axis=1)
    return np.ma.masked_array(-np.ma.getdata(sums), mask=np.ma.getmaskarray(counted).any(axis=1))
