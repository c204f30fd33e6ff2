"""Scores from the gradient of the training loss: norm, SNIP, plain, GraSP, Fisher and ZiCo.

All use the weights of convolutions and linear layers in a `probed_copy` of the network; the loss is
the cross-entropy of a batch.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dtb_builder.scores.graph import Graph

__all__ = ["fisher", "gradient_norm", "grasp", "plain", "snip", "zico"]


def gradient_norm(graph: Graph) -> float:
    """Sum over layers of the Euclidean norm of the gradient of a layer's weights.

    Source: Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, and its code,
    SamsungLabs/zero-cost-nas.

    Raises:
        DivergedError: a gradient is not finite.
    """
    return sum(float(gradient.norm()) for _, gradient in graph.weights)


def snip(graph: Graph) -> float:
    """Sum over all weights w of |w dL/dw|.

    Source: Lee et al., SNIP: Single-shot Network Pruning, ICLR 2019, for a weight's saliency, which
    is not normalised here; Abdelfattah et al., ICLR 2021, for its sum as a score.

    Raises:
        DivergedError: a gradient is not finite.
    """
    return sum(float((weight * gradient).abs().sum()) for weight, gradient in graph.weights)


def plain(graph: Graph) -> float:
    """Sum over all weights w of w dL/dw, signs included.

    Source: Abdelfattah et al., ICLR 2021, and its code, after Mozer and Smolensky,
    Skeletonization, NeurIPS 1988.

    Raises:
        DivergedError: a gradient is not finite.
    """
    return sum(float((weight * gradient).sum()) for weight, gradient in graph.weights)


def grasp(graph: Graph) -> float:
    """Minus the sum over all weights w of w (H g), with the loss's Hessian H and its gradient g.

    Source: Wang et al., Picking Winning Tickets Before Training by Preserving Gradient Flow, ICLR
    2020, for a weight's score; Abdelfattah et al., ICLR 2021, for its sum, with this sign.

    Args:
        graph: made with ``twice=True``.
    """
    return -sum(float((weight * product).sum()) for weight, product in graph.hessian_products)


def fisher(graph: Graph) -> float:
    """Sum over channels of half the mean square over images of (maps times their gradient).

    The maps are the outputs of convolutions and linear layers. Each channel is multiplied by its
    number of weights.

    Source: Turner et al., BlockSwap, ICLR 2020, for a channel's score; Abdelfattah et al., ICLR
    2021, and its code, SamsungLabs/zero-cost-nas, for this sum.
    """
    total = 0.0
    for layer, maps, gradients in graph.outputs:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        of_images = (maps * gradients).flatten(2).sum(2) if maps.ndim > 2 else maps * gradients
        per_channel = of_images.square().mean(0) / 2
        total += float(per_channel.sum()) * weight[0].numel()
    return total


def zico(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Sum over layers of log sum over weights of mean |g| / deviation of |g| over batches.

    A weight whose gradient is the same in all batches has no defined term and is left out, and so
    is a layer that has only such weights.

    Source: Li et al., ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients,
    ICLR 2023. Its code, SLDGroup/ZiCo, uses the deviation of g, not of |g|; before February 2023 it
    also accumulated the gradients of successive batches.

    Args:
        network: maps images to logits; copies of it run.
        batches: at least two pairs of images and labels, with the shapes that `Graph` takes.

    Raises:
        DivergedError: a gradient is not finite.
        ValueError: there are fewer than two batches, or no layer has a term.
    """
    if len(batches) < 2:
        raise ValueError(f"ZiCo needs at least 2 batches, got {len(batches)}")
    by_batch = [
        [gradient.abs() for _, gradient in Graph(network, *batch).weights] for batch in batches
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
