"""Recompute batch-norm statistics for weights that were not trained, such as averages."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from dtb_builder.network.network import Network

__all__ = ["recalibrated"]


@torch.no_grad()
def recalibrated(
    network: Network, images: Tensor | NDArray[np.float32], *, batch_size: int = 96
) -> Network:
    """A copy in evaluation mode whose batch norms have the mean statistics of some images.

    Averages and interpolations of states need it: the statistics of averaged weights are not the
    averages of the statistics.

    Args:
        network: a network; drop-path and the auxiliary head are off.
        images: normalised, shape (images, channels, height, width); some thousand training images
            are enough.
        batch_size: images per batch; each batch has the same weight, also a smaller last one.

    Raises:
        ValueError: there are no images.

    >>> mean = (run.training_state(epoch=4).values + run.training_state(epoch=5).values) / 2
    >>> network = recalibrated(run.network(state=mean), bench.images().train.images[:16])
    >>> network.training
    False
    """
    if not len(images):
        raise ValueError("batch norms need at least one image")
    fresh = copy.deepcopy(network).eval()
    norms = [module for module in fresh.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # each batch has the same weight
        norm.train()
    device = next(fresh.parameters()).device
    for batch in torch.as_tensor(images).split(batch_size):
        fresh(batch.to(device, memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return fresh.eval()
