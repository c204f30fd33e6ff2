"""Continue a training from a stored state and its momentum."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dtb_builder.network.state import restore
from dtb_builder.record import TrainingState
from dtb_builder.training.momentum import restore_momentum

__all__ = ["Start"]


@dataclass(frozen=True, eq=False)
class Start:
    """The stored end of an epoch, from which a training under any recipe can continue.

    Attributes:
        epoch: the epoch's number.
        state: the state of the whole network, including an auxiliary head.
        momentum: the optimiser's momentum, with the state's layout; None starts without momentum.
    """

    epoch: int
    state: TrainingState
    momentum: NDArray[np.float32] | None

    def restore(self, network: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> None:
        """Set a new network, its optimiser and its scheduler to the end of the epoch.

        The scheduler is stepped to the epoch, because its closed form differs in the last bit.

        Raises:
            ValueError: the state does not fit the network.
        """
        restore(network, self.state)
        for _ in range(self.epoch):
            optimizer.step()  # without gradients a no-op; without it the scheduler warns
            scheduler.step()
        if self.momentum is not None:
            restore_momentum(network, optimizer, self.momentum)
