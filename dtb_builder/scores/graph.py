"""One forward pass with its autograd graph, and the backward passes that scores share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from dtb_builder.errors import DivergedError
from dtb_builder.remembered import remembered
from dtb_builder.scores.activations import ActivationWatch
from dtb_builder.scores.probed import full_precision, probed_copy

__all__ = ["Graph", "is_layer", "layers_of", "weights_of"]


class Graph:
    """The forward pass of a network, with gradients that are computed when first asked for.

    The loss is the cross-entropy. Each backward pass runs only once.

    Args:
        network: maps images to logits; a `probed_copy` of it runs.
        images: normalised, shape (images, channels, height, width).
        labels: int64, shape (images,); without labels there is no loss.
        visit: is called with the codes of each ReLU, see `visit_activations`.
        twice: whether the loss can be differentiated twice, as `grasp` needs.

    Attributes:
        logits: shape (images, classes).
        labels: as given.
        watch: the ActivationWatch that calls `visit`; None without `visit`.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        visit: Callable[[Tensor], object] | None = None,
        twice: bool = False,
    ) -> None:
        probed = probed_copy(network)
        self.labels = labels
        self._twice = twice
        self._weights = [weight.requires_grad_() for weight in weights_of(probed)]
        self._images = images.detach().clone().requires_grad_()
        self._outputs: list[tuple[nn.Module, Tensor]] = []
        for layer in layers_of(probed):
            layer.register_forward_hook(self._keep)
        self.watch = None if visit is None else ActivationWatch(probed, len(images), visit)
        with torch.enable_grad(), full_precision(images.device):
            if self.watch is None:
                self.logits: Tensor = probed(self._images)
            else:
                with self.watch:
                    self.logits = probed(self._images)

    @remembered
    def loss(self) -> Tensor:
        """The mean cross-entropy."""
        if self.labels is None:
            raise ValueError("a loss needs labels")
        with torch.enable_grad(), full_precision(self.logits.device):
            return functional.cross_entropy(self.logits, self.labels)

    @remembered
    def weights(self) -> list[tuple[Tensor, Tensor]]:
        """The weights on which the loss depends, with their gradients, in the modules' order.

        Raises:
            DivergedError: a gradient is not finite.
        """
        pairs = [(weight.detach(), gradient.detach()) for weight, gradient in self._pairs]
        if not all(gradient.isfinite().all() for _, gradient in pairs):
            raise DivergedError(f"a gradient is not finite; the loss is {self.loss.item()}")
        return pairs

    @remembered
    def hessian_products(self) -> list[tuple[Tensor, Tensor]]:
        """The weights, each with its part of H g, the loss's Hessian times its gradient.

        Raises:
            ValueError: the graph was not made with ``twice=True``.
        """
        if not self._twice:
            raise ValueError("wanted a graph made with twice=True")
        weights = [weight for weight, _ in self._pairs]
        with torch.enable_grad(), full_precision(self.logits.device):
            norms = [(gradient.detach() * gradient).sum() for _, gradient in self._pairs]
            products = torch.autograd.grad(torch.stack(norms).sum(), weights, allow_unused=True)
        return [
            (weight.detach(), product)
            for weight, product in zip(weights, products, strict=True)
            if product is not None
        ]

    @remembered
    def outputs(self) -> list[tuple[nn.Module, Tensor, Tensor]]:
        """For each call of a layer: the layer, its output, and the output's gradient."""
        gradients = self._of_loss[len(self._weights) :]
        return [
            (layer, output.detach(), gradient.detach())
            for (layer, output), gradient in zip(self._outputs, gradients, strict=True)
            if gradient is not None
        ]

    @remembered
    def image_gradients(self) -> Tensor:
        """The gradients of the summed logits by each image, (images, values), float64 on the CPU.

        Raises:
            DivergedError: a gradient is not finite.
        """
        with torch.enable_grad(), full_precision(self.logits.device):
            (gradients,) = torch.autograd.grad(self.logits.sum(), self._images, retain_graph=True)
        rows = gradients.flatten(1).double().cpu()
        if not rows.isfinite().all():
            raise DivergedError("a gradient by an image is not finite")
        return rows

    @property
    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        pairs = zip(self._weights, self._of_loss[: len(self._weights)], strict=True)
        return [(weight, gradient) for weight, gradient in pairs if gradient is not None]

    @remembered
    def _of_loss(self) -> tuple[Tensor | None, ...]:
        by = [*self._weights, *(output for _, output in self._outputs)]
        with torch.enable_grad(), full_precision(self.logits.device):
            return torch.autograd.grad(
                self.loss, by, allow_unused=True, retain_graph=True, create_graph=self._twice
            )

    def _keep(self, layer: nn.Module, _: Any, output: Tensor) -> None:
        self._outputs.append((layer, output))


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The convolutions and linear layers, in the order of the modules."""
    return [module for module in network.modules() if is_layer(module)]


def weights_of(network: nn.Module) -> list[Tensor]:
    """The weights of convolutions and linear layers, in the order of the modules."""
    return [layer.weight for layer in layers_of(network)]  # pyright: ignore[reportReturnType]


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution or a linear layer."""
    return isinstance(module, _ConvNd | nn.Linear)
