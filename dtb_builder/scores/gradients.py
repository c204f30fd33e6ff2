"""Scores from the gradient of the training loss: gradient norm, SNIP and ZiCo.

All look at the weights of convolutions and linear layers, in a network as `probed_copy` has it,
with the cross-entropy of a batch as the loss.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from dtb_builder.errors import DivergedError
from dtb_builder.scores.probed import full_precision, probed_copy

__all__ = ["gradient_norm", "gradient_norm_and_snip", "snip", "weights_of", "zico"]


def gradient_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over layers of the Euclidean norm of the gradient of a layer's weights.

    Source: Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, and its code,
    SamsungLabs/zero-cost-nas.

    Args:
        network: maps images to logits; it is left as it is.
        images: normalised, shape (images, channels, height, width).
        labels: int64, shape (images,).

    Raises:
        DivergedError: a gradient is not finite.
    """
    return gradient_norm_and_snip(network, images, labels)[0]


def snip(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over all weights w of |w dL/dw|: how much the loss hangs on each weight.

    Source: Lee et al., SNIP: Single-shot Network Pruning, ICLR 2019, for a weight's saliency, which
    is not normalised here; Abdelfattah et al., ICLR 2021, for its sum as a score. Arguments and
    errors are those of `gradient_norm`.
    """
    return gradient_norm_and_snip(network, images, labels)[1]


def gradient_norm_and_snip(
    network: nn.Module, images: Tensor, labels: Tensor
) -> tuple[float, float]:
    """Both scores from one backward pass; arguments and errors are those of `gradient_norm`."""
    weights, gradients = _weights_and_gradients(probed_copy(network), images, labels)
    saliency = sum(
        float((weight * gradient).abs().sum())
        for weight, gradient in zip(weights, gradients, strict=True)
    )
    return sum(float(gradient.norm()) for gradient in gradients), saliency


def zico(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Sum over layers of log sum over weights of mean |g| / deviation of |g| over batches.

    A weight whose gradient is the same in all batches is left out, and so is a layer that has no
    other weights, as their terms are not defined.

    Source: Li et al., ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients,
    ICLR 2023. Its code, SLDGroup/ZiCo, takes the deviation of g, not of |g|, and each batch's
    gradient is there added to those before it.

    Args:
        network: maps images to logits; it is left as it is.
        batches: at least two of (images, labels), shaped as those of `gradient_norm`.

    Raises:
        DivergedError: a gradient is not finite.
        ValueError: there are fewer than two batches, or no layer has a term.
    """
    if len(batches) < 2:
        raise ValueError(f"ZiCo needs at least 2 batches, got {len(batches)}")
    probed = probed_copy(network)
    by_batch = [
        [gradient.abs() for gradient in _weights_and_gradients(probed, *batch)[1]]
        for batch in batches
    ]
    terms: list[float] = []
    for gradients in zip(*by_batch, strict=True):
        stacked = torch.stack(gradients).double()
        deviation, mean = torch.std_mean(stacked, dim=0, correction=0)
        varied = deviation > 0
        if varied.any():
            terms.append(math.log(float((mean[varied] / deviation[varied]).sum())))
    if not terms:
        raise ValueError("ZiCo needs gradients that differ between batches, got the same in all")
    return sum(terms)


def weights_of(network: nn.Module) -> list[Tensor]:
    """The weights of convolutions and linear layers, in the order of the modules."""
    return [
        module.weight for module in network.modules() if isinstance(module, _ConvNd | nn.Linear)
    ]


def _weights_and_gradients(
    probed: nn.Module, images: Tensor, labels: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The weights on which the logits depend, and the gradient of the loss by each."""
    weights = [weight.requires_grad_() for weight in weights_of(probed)]
    with torch.enable_grad(), full_precision(images.device):
        loss = functional.cross_entropy(probed(images), labels)
        found = torch.autograd.grad(loss, weights, allow_unused=True)
    pairs = [
        (weight.detach(), gradient)
        for weight, gradient in zip(weights, found, strict=True)
        if gradient is not None
    ]
    if not all(gradient.isfinite().all() for _, gradient in pairs):
        raise DivergedError(f"a gradient is not finite; the loss is {loss.item()}")
    return [weight for weight, _ in pairs], [gradient for _, gradient in pairs]
