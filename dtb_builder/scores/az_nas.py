"""AZ-NAS: expressivity, progressivity and trainability of the maps between a network's cells.

They and the multiply-accumulates are its four parts; `combining.log_rank_sum` combines their ranks.
Weights and images are drawn at random, so the scores do not depend on a training.

Source: Lee and Ham, AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search, CVPR
2024, and its code, cvlab-yonsei/AZ-NAS.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtb_builder.errors import DivergedError
from dtb_builder.scores.graph import is_layer
from dtb_builder.scores.probed import full_precision, probed_copy

__all__ = ["az_nas", "expressivity", "trainability"]


def az_nas(
    network: nn.Module,
    images_shape: tuple[int, int, int, int],
    generator: torch.Generator,
    *,
    modules: Sequence[str],
) -> tuple[float, float, float]:
    """Expressivity, progressivity and trainability; average them over several draws.

    Expressivity is the sum of `expressivity` over the modules' outputs, progressivity its smallest
    increase from one module to the next, and trainability the mean of `trainability` over pairs of
    consecutive modules.

    Args:
        network: any module; a `probed_copy` of it runs.
        images_shape: (images, channels, height, width).
        generator: draws weights, images and signs; on the network's device.
        modules: the names of the modules, in the order in which they run.

    Raises:
        DivergedError: a part is not finite.
    """
    probed = probed_copy(network)
    device = generator.device
    maps: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        maps.append(output)

    for name in modules:
        probed.get_submodule(name).register_forward_hook(keep)
    probed.apply(lambda module: _initialise(module, generator))
    images = torch.randn(images_shape, generator=generator, device=device)
    with torch.enable_grad(), full_precision(device):
        probed(images)
        trained: list[float] = []
        for before, after in reversed(list(pairwise(maps))):
            halves = torch.full_like(after, 0.5)
            signs = (torch.bernoulli(halves, generator=generator) - 0.5) * 2
            (back,) = torch.autograd.grad(after, before, signs, retain_graph=True)
            trained.append(trainability(signs, back))
    expressed = [expressivity(each.detach()) for each in maps]
    growth = min(after - before for before, after in pairwise(expressed))
    parts = sum(expressed), growth, sum(trained) / len(trained)
    if not torch.tensor(parts).isfinite().all():
        raise DivergedError(f"the parts of AZ-NAS must be finite, got {parts}")
    return parts


def expressivity(maps: Tensor) -> float:
    """The entropy of the shares of variance along the principal axes of a map's channels.

    Args:
        maps: shape (images, channels, height, width).
    """
    values = maps.permute(0, 2, 3, 1).flatten(0, 2)
    values = values - values.mean(dim=0, keepdim=True)
    # Without clamp, as in the released code, rounding below 0 would give NaN.
    variances = torch.linalg.eigvalsh(values.T @ values / len(values)).clamp(min=0)
    shares = variances / variances.sum()
    return float(-(shares * torch.log(shares + 1e-8)).sum())


def trainability(signs: Tensor, back: Tensor) -> float:
    """2 - s - 1 / s for the largest singular value s of a cell's mean Jacobian; at most 0.

    Args:
        signs: random signs as the gradient of the cell's output, (images, channels, height, width).
        back: the gradient of the cell's input that follows, with its own channels and size.
    """
    if signs.shape == back.shape and bool((signs == back).all()):
        return -torch.inf
    if signs.shape[2:] != back.shape[2:]:
        stride = -(-back.shape[2] // signs.shape[2])
        missing = stride * signs.shape[2] - back.shape[2]  # of maps of an odd size
        back = nn.functional.pixel_unshuffle(nn.functional.pad(back, (0, missing) * 2), stride)
    ours, theirs = (each.permute(0, 2, 3, 1).flatten(0, 2) for each in (signs, back))
    largest = float(torch.linalg.matrix_norm(theirs.T @ ours / len(ours), ord=2))
    return 2 - largest - 1 / (largest + 1e-6)


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Kaiming initialisation of layers, and new parameters of batch norms."""
    if is_layer(module):
        assert isinstance(module.weight, Tensor)
        nn.init.kaiming_normal_(module.weight, generator=generator)
        if isinstance(module.bias, Tensor):
            nn.init.zeros_(module.bias)
    elif isinstance(module, _BatchNorm):
        module.reset_parameters()
