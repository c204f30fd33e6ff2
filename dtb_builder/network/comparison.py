"""Compare the compiled passes with the modules on one small batch."""

import copy

import torch
from torch import Tensor

from dtb_builder.network.kernels import AnyLibrary, can_be_compiled
from dtb_builder.network.network import Network
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.space import OPERATIONS, Edge, Genotype

__all__ = ["BOUNDS", "differences_from_modules"]

BOUNDS = {"logits": 5e-5, "gradients": 1e-3}
"""The largest allowed differences in float32, relative to the largest value.

Measured on CPUs: 8e-7 for logits and 1e-5 for gradients.
"""

_SPEC = NetworkSpec(channels=8, layers=3, num_classes=10, image_size=16, auxiliary=False)
_LEAST = 1e-2
"""The scale of a tensor's difference is at least this share of the largest gradient of all."""


def differences_from_modules(library: AnyLibrary) -> dict[str, float]:
    """The largest differences of logits and of gradients in float32, each to be within BOUNDS.

    The network has every operation at both strides; drop-path is off. The random number generators
    of the caller are not changed.
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        network = Network(_every_operation(), _SPEC).to(library.device_type)
        images = torch.randn(8, 3, 16, 16).to(library.device_type)
    compiled = copy.deepcopy(network)
    compiled.use_kernels(library)
    assert can_be_compiled(library, compiled.cells, compiled.stem(images))
    ours, theirs = (_logits_and_gradients(one, images) for one in (compiled, network))
    pairs = list(zip(ours, theirs, strict=True))
    least = _LEAST * max(float(two.abs().max()) for _, two in pairs[1:])
    gradients = max(_difference(*pair, least) for pair in pairs[1:])
    return {"logits": _difference(*pairs[0], 0.0), "gradients": gradients}


def _every_operation() -> Genotype:
    """All operations at stride 1 in its normal cell, and at stride 2 in its reduction cell."""
    edges = tuple(Edge(name, i % 2) for i, name in enumerate((*OPERATIONS, OPERATIONS[0])))
    return Genotype(normal=edges, reduce=edges)


def _logits_and_gradients(network: Network, images: Tensor) -> list[Tensor]:
    logits = network(images)
    assert isinstance(logits, Tensor)
    (logits.logsumexp(1) - logits[:, 0]).sum().backward()
    return [logits.detach(), *(p.grad for p in network.parameters() if p.grad is not None)]


def _difference(one: Tensor, two: Tensor, least: float) -> float:
    """The largest difference relative to the largest value; infinite where it is not a number."""
    difference = float((one - two).abs().max()) / max(float(two.abs().max()), least)
    return difference if difference < torch.inf else torch.inf
