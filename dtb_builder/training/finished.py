"""An epoch that has just been trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dtb_builder.record import TrainingState

__all__ = ["FinishedEpoch"]


@dataclass(frozen=True, eq=False)
class FinishedEpoch:
    """What train hands over after each epoch.

    Network, optimiser and scheduler are live: they change when the generator goes on.

    Attributes:
        epoch: 0 is the initialisation.
        metrics: those of dtb_builder.record.METRICS that train can measure; state_seconds are
            those of step_states.
        network: as it is after the epoch, in any mode.
        optimizer: as it is after the epoch.
        scheduler: already set to the next epoch's learning rate.
        step_states: the states after those steps that were asked for, counted over the training.
    """

    epoch: int
    metrics: Mapping[str, float]
    network: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    step_states: Mapping[int, TrainingState] = field(default_factory=dict)
