"""Activation codes, which say for each image which ReLU units fire; collected by forward hooks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dtb_builder.errors import DivergedError, UnseenReLUError
from dtb_builder.scores.kernel import Agreement
from dtb_builder.scores.probed import full_precision, probed_copy

__all__ = [
    "ActivationWatch",
    "AgreementCounter",
    "activation_codes",
    "network_agreement",
    "visit_activations",
]

_CHUNK = 2**22  # units at a time; float32 counts exactly up to 2**24
_RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)


def activation_codes(network: nn.Module, images: Tensor) -> NDArray[np.bool_]:
    """Which units fire for which image, shape (images, units). A unit fires if its input is > 0.

    The units have the order of the forward pass; a ReLU module that is called twice counts twice.
    Each code takes a byte: `network_agreement` needs far less memory.

    Args:
        network: any module; a `probed_copy` of it runs.
        images: normalised, shape (images, channels, height, width), on the network's device.

    Raises:
        UnseenReLUError: the network has ReLUs that are not modules, or no ReLU modules.
        DivergedError: an activation is not a number.
        ValueError: a ReLU's input does not have one row per image.
    """
    parts: list[NDArray[np.bool_]] = []
    visit_activations(network, images, lambda fires: parts.append(fires.flatten(1).cpu().numpy()))
    return np.concatenate(parts, axis=1)


def network_agreement(network: nn.Module, images: Tensor) -> Agreement:
    """The agreement kernel of a network's activation codes; keeps the codes of one ReLU at a time.

    Arguments and errors are those of `activation_codes`.
    """
    counter = AgreementCounter(len(images), images.device)
    visit_activations(network, images, counter)
    return counter.agreement()


class AgreementCounter:
    """Sums the agreement kernel over the codes of one ReLU after the other.

    Args:
        num_images: the number of images.
        device: the device of the codes.
    """

    def __init__(self, num_images: int, device: torch.device) -> None:
        self._counts = torch.zeros(num_images, num_images, dtype=torch.int64, device=device)

    def __call__(self, fires: Tensor) -> None:
        """Count the codes of a ReLU, bool, shape (images, ...)."""
        # In memory order, which is faster; the order of units does not matter.
        dimensions = sorted(range(1, fires.ndim), key=fires.stride, reverse=True)
        for part in fires.permute(0, *dimensions).flatten(1).split(_CHUNK, dim=1):
            signs = part.to(torch.float32).mul_(2).sub_(1)
            # A product of signs sums 1 for each agreement and -1 for each other unit.
            self._counts.add_((signs @ signs.T).to(torch.int64) + part.shape[1])

    def agreement(self) -> Agreement:
        """The kernel of all codes that were counted."""
        return Agreement(self._counts.div(2, rounding_mode="floor").cpu().numpy())


def visit_activations(
    network: nn.Module, images: Tensor, visit: Callable[[Tensor], object]
) -> None:
    """Call ``visit`` with the codes of each ReLU call, in order: bool, shape (images, ...).

    Arguments and errors are those of `activation_codes`. ``visit`` is a callback, because a
    generator cannot yield inside a network's forward pass.

    ReLUs in fused kernels and other activation functions cannot be noticed: for networks of the
    DARTS space, compare the number of units with `activation_units`.
    """
    probed = probed_copy(network)
    watch = ActivationWatch(probed, len(images), visit)
    with torch.no_grad(), full_precision(images.device), watch:
        probed(images)
    watch.check()


class ActivationWatch:
    """A context in which forward passes call ``visit`` with the codes of each ReLU.

    An error does not stop the forward pass, since other scores may use it: call `check` afterwards.

    Args:
        probed: a copy of the network; the hooks stay on it.
        num_images: the number of images of a forward pass.
        visit: see `visit_activations`.
    """

    def __init__(
        self, probed: nn.Module, num_images: int, visit: Callable[[Tensor], object]
    ) -> None:
        self._name = type(probed).__name__
        self._num_images = num_images
        self._visit = visit
        self._calls = _ReLUCalls()
        self._error: Exception | None = None
        for module in probed.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_pre_hook(self._before, with_kwargs=True)
                module.register_forward_hook(self._after, always_call=True)

    def __enter__(self) -> None:
        self._calls.__enter__()

    def __exit__(self, *raised: Any) -> None:
        self._calls.__exit__(*raised)

    def check(self) -> None:
        """Raise the errors of `visit_activations`."""
        if self._error is not None:
            raise self._error
        seen, unseen = self._calls.num_seen, self._calls.num_unseen
        if unseen or not seen:
            raise UnseenReLUError(
                f"wanted a network whose ReLUs are all nn.ReLU modules, got {seen} calls of such "
                f"modules and {unseen} other calls of relu in {self._name}"
            )

    def _before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        values = (args[0] if args else kwargs["input"]).detach()
        self._calls.num_seen += 1
        self._calls.inside = True
        if self._error is not None:
            return
        if len(values) != self._num_images:
            self._error = ValueError(
                f"the input of every ReLU must have a row for each of {self._num_images} images, "
                f"got {len(values)} rows"
            )
        elif values.sum().isnan():
            self._error = DivergedError("an activation is not a number")
        else:
            self._visit(values > 0)

    def _after(self, *_: object) -> None:
        self._calls.inside = False


class _ReLUCalls(TorchDispatchMode):
    """Counts every relu that torch computes, from modules and from functional calls.

    Attributes:
        inside: whether a hooked module is running.
        num_seen: calls of hooked modules.
        num_unseen: calls of relu outside hooked modules.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inside = False
        self.num_seen = 0
        self.num_unseen = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _RELUS and not self.inside:
            self.num_unseen += 1
        return func(*args, **(kwargs or {}))
