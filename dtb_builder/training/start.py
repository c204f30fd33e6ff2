"""Going on from the end of an epoch whose state and momentum are known."""

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
    """What was kept after an epoch, for a training under any recipe to go on from.

    Attributes:
        epoch: that epoch.
        state: of all the network's tensors, as it was trained.
        momentum: of the optimiser, in the state's order; None where it begins without.
    """

    epoch: int
    state: TrainingState
    momentum: NDArray[np.float32] | None

    def restore(self, network: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> None:
        """Bring a new network, its optimiser and its scheduler to where the training goes on.

        The scheduler is stepped there: its closed form differs in the last bit.

        Raises:
            ValueError: the state is not of such a network.
        """
        restore(network, self.state)
        for _ in range(self.epoch):
            optimizer.step()  # without gradients it changes nothing; the scheduler wants it called
            scheduler.step()
        if self.momentum is not None:
            restore_momentum(network, optimizer, self.momentum)
