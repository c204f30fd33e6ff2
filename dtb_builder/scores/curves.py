"""Scores from a run's training curves, which cost nothing beyond the training."""

import numpy as np

__all__ = ["training_speed"]


def training_speed(train_losses: np.ma.MaskedArray, *, epoch: int) -> np.ma.MaskedArray:
    """Minus the sum of the training losses of epochs 1 to ``epoch``: larger for faster training.

    Source: Ru et al., Speedy Performance Estimation for Neural Architecture Search, NeurIPS 2021;
    their TSE is the sum, so that a smaller one is better.

    Args:
        train_losses: shape (runs, epochs + 1), epoch 0 included, as
            ``Benchmark.array("train_loss")`` returns it.
        epoch: the last epoch of the sum, at least 1.

    Returns:
        Shape (runs,), masked where a loss is masked.

    Raises:
        ValueError: ``epoch`` is not one of the array's.
    """
    num_epochs = train_losses.shape[1] - 1
    if not 1 <= epoch <= num_epochs:
        raise ValueError(f"epoch must be in 1..{num_epochs}, got {epoch}")
    counted = train_losses[:, 1 : epoch + 1]
    sums = counted.sum(axis=1)
    return np.ma.masked_array(-np.ma.getdata(sums), mask=np.ma.getmaskarray(counted).any(axis=1))
