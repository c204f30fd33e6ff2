"""The optimiser of a recipe."""

import inspect

import torch
from torch import nn
from torch.optim import SGD

from dtb_builder.training.recipe import Recipe

__all__ = ["make_optimizer"]


class _EagerSGD(SGD):
    """SGD without the decorators that import torch's compiler, which takes over a second."""

    add_param_group = inspect.unwrap(SGD.add_param_group)
    load_state_dict = inspect.unwrap(SGD.load_state_dict)
    state_dict = inspect.unwrap(SGD.state_dict)
    step = torch.no_grad()(inspect.unwrap(SGD.step))
    zero_grad = inspect.unwrap(SGD.zero_grad)


def make_optimizer(network: nn.Module, recipe: Recipe, device: torch.device) -> SGD:
    """SGD on all parameters of a network, which must be on the device already."""
    on_gpu = device.type == "cuda"
    return _EagerSGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=on_gpu,
        foreach=not on_gpu,  # all parameters in one call, to the same bits
    )
