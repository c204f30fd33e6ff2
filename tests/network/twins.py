"""Two networks of the same weights, one of them in compiled passes, and whether they agree."""

import copy

import torch
from torch import Tensor

from dtb_builder.network import NetworkSpec
from dtb_builder.network.kernels import AnyLibrary
from dtb_builder.network.network import Network
from dtb_builder.space import sample_uniform

__all__ = ["assert_close", "pair", "spec_of", "trained_once"]


def spec_of(channels: int, layers: int, size: int, *, auxiliary: bool = False) -> NetworkSpec:
    """Of five classes of images in three colours."""
    return NetworkSpec(
        channels=channels, layers=layers, num_classes=5, image_size=size, auxiliary=auxiliary
    )


def pair(
    spec: NetworkSpec, index: int, library: AnyLibrary, dtype: torch.dtype = torch.float32
) -> tuple[Network, Network]:
    """A network that runs its modules, and the same one compiled."""
    torch.manual_seed(index)
    modules = spec.build(sample_uniform(seed=7, index=index))
    modules.to(device=library.device_type, dtype=dtype)
    compiled = copy.deepcopy(modules)
    compiled.use_kernels(library)
    return modules, compiled


def trained_once(network: Network, images: Tensor, drop_path: float) -> list[Tensor]:
    """Logits, and gradients of images and parameters, after one step's two passes."""
    network.set_drop_path(drop_path)
    torch.manual_seed(3)
    images = images.clone().requires_grad_()
    output = network(images)
    logits = output if isinstance(output, tuple) else (output,)
    loss = sum(
        (part.logsumexp(1).sum() + part[:, 0].sum() for part in logits), images.new_zeros(())
    )
    loss.backward()
    assert images.grad is not None
    gradients = [p.grad if p.grad is not None else torch.zeros(()) for p in network.parameters()]
    return [*(part.detach() for part in logits), images.grad, *gradients]


def assert_close(
    compiled: list[Tensor], modules: list[Tensor], tolerance: float, *, floor: float = 1e-5
) -> None:
    """Equal within a tolerance relative to the largest value of each tensor.

    Args:
        compiled: what one network gave.
        modules: what the other gave.
        tolerance: of the difference.
        floor: of a tensor's largest value, as a part of that of all. A gradient whose terms cancel,
            as before a batch norm, is rounding more than it is size.
    """
    least = floor * max(float(tensor.abs().max()) for tensor in modules)
    for one, two in zip(compiled, modules, strict=True):
        scale = max(float(two.abs().max()), least)
        torch.testing.assert_close(one, two, rtol=0, atol=tolerance * scale)
