"""What a training yields after each epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dtb_builder.record import TrainingState

__all__ = ["FinishedEpoch"]


@dataclass(frozen=True, eq=False)
class FinishedEpoch:
    """What train yields after each epoch.

    Network, optimiser and scheduler are live: they change when the generator goes on.

    Attributes:
        epoch: the epoch's number; 0 is the initialisation.
        metrics: those of dtb_builder.record.METRICS that train measures; state_seconds is the
            time that capturing step_states took.
        network: the network after the epoch, in training or evaluation mode.
        optimizer: the optimiser after the epoch.
        scheduler: already stepped to the next epoch's learning rate.
        step_states: the states that were asked for, by their step, counted over the training.
    """

    epoch: int
    metrics: Mapping[str, float]
    network: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    step_states: Mapping[int, TrainingState] = field(default_factory=dict)
