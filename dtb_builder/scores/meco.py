"""MeCo: how little the channels of each module's output are correlated, for one random image."""

import torch
from torch import Tensor, nn

from dtb_builder.errors import DivergedError
from dtb_builder.scores.probed import full_precision, probed_copy

__all__ = ["meco"]

_SIZE = 64


def meco(network: nn.Module, num_channels: int, generator: torch.Generator) -> float:
    """Sum over modules of the smallest eigenvalue of the correlation matrix of its output channels.

    As in the released code, every module counts, containers too, and the image has 64 x 64 pixels
    of the standard normal distribution. Undefined correlations count as 0.

    Source: Jiang et al., MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum
    Eigenvalue of Correlation, NeurIPS 2023, and its code, HamsterMimi/MeCo.

    Args:
        network: any module; a `probed_copy` of it runs.
        num_channels: the channels of its input images.
        generator: draws the image; on the network's device.

    Raises:
        DivergedError: the score is not finite.
    """
    probed = probed_copy(network)
    device = generator.device
    least: list[Tensor] = []

    def look(_: nn.Module, __: object, output: Tensor) -> None:
        channels = output[0].detach().flatten(1) if output[0].ndim > 1 else output[0][:, None]
        if channels.shape[1] < 2:  # a single value has no correlation with another
            least.append(torch.zeros((), device=device))
            return
        correlations = torch.corrcoef(channels).reshape(len(channels), -1).nan_to_num(0, 0, 0)
        least.append(torch.linalg.eigvalsh(correlations)[0])

    for module in probed.modules():
        module.register_forward_hook(look)
    with torch.no_grad(), full_precision(device):
        probed(torch.randn(1, num_channels, _SIZE, _SIZE, generator=generator, device=device))
    score = float(torch.stack(least).sum())
    if not torch.tensor(score).isfinite():
        raise DivergedError(f"a MeCo score must be finite, got {score}")
    return score
