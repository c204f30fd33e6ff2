"""Zen: how strongly the maps of a random network change when random images are changed."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from dtb_builder.errors import DivergedError
from dtb_builder.scores.probed import full_precision, probed_copy

__all__ = ["zen"]

_STEP = 0.01  # the standard deviation of an image's change


def zen(
    network: nn.Module,
    images_shape: tuple[int, int, int, int],
    generator: torch.Generator,
    *,
    features: str,
) -> float:
    """Log mean change of the last maps, plus the log mean deviation of each batch norm's input.

    Weights and images are drawn from the standard normal distribution, so the score depends on the
    architecture and not on a training; average it over several draws. Batch norms neither shift nor
    scale. The paper removes residual connections; here a cell keeps its edges.

    Source: Lin et al., Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition, ICCV 2021,
    algorithm 1. As in the paper, the change is a Frobenius norm; its code, idstcv/ZenNAS, uses the
    sum of absolute changes.

    Args:
        network: any module; a `probed_copy` of it runs.
        images_shape: (images, channels, height, width).
        generator: draws weights and images; on the network's device.
        features: the name of the module whose output is the last maps before pooling.

    Raises:
        DivergedError: the score is not finite.
    """
    probed = probed_copy(network)
    device = generator.device
    maps: list[Tensor] = []
    deviations: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        maps.append(output)

    def measure(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        deviations.append(values.var(dim=1, correction=0).mean().sqrt())

    probed.get_submodule(features).register_forward_hook(keep)
    with torch.no_grad(), full_precision(device):
        for module in probed.modules():
            if isinstance(module, _ConvNd | nn.Linear):
                module.weight.normal_(generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, _BatchNorm):
                module.reset_parameters()
        images = torch.randn(images_shape, generator=generator, device=device)
        changes = torch.randn(images_shape, generator=generator, device=device)
        probed(images + _STEP * changes)
        for module in probed.modules():
            if isinstance(module, _BatchNorm):
                module.register_forward_pre_hook(measure)
        probed(images)
    change = (maps[0] - maps[1]).flatten(1).norm(dim=1).mean()
    score = float(change.log() + sum(deviation.log() for deviation in deviations))
    if not torch.tensor(score).isfinite():
        raise DivergedError(f"a Zen score must be finite, got {score}")
    return score
