"""The networks of a checkout of quark0/darts, loaded as they are to be compared with."""

import contextlib
import importlib
import io
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from torch import Tensor, nn

from dtb_builder.network import NetworkSpec
from dtb_builder.space import Genotype

__all__ = ["Reference"]


class Reference:
    """A checkout of the reference, changed only in what modern torch on any device needs.

    It prints while it builds, imports torchvision for the images alone, and draws drop-path on
    CUDA whatever the device; nothing else of it is touched.

    Args:
        path: the checkout, with its folder ``cnn``.
    """

    def __init__(self, path: Path) -> None:
        torchvision = ModuleType("torchvision")
        transforms = ModuleType("torchvision.transforms")
        torchvision.transforms = transforms  # pyright: ignore[reportAttributeAccessIssue]
        sys.modules |= {"torchvision": torchvision, "torchvision.transforms": transforms}
        sys.path.insert(0, str(path / "cnn"))
        try:
            self._model: Any = importlib.import_module("model")
        finally:
            sys.path.pop(0)
        self._model.drop_path = _drop_path

    def build(self, genotype: Genotype, spec: NetworkSpec) -> nn.Module:
        """Its NetworkCIFAR of this genotype, newly initialised, without drop-path."""
        concat = range(2, 6)
        cells = SimpleNamespace(
            normal=[tuple(edge) for edge in genotype.normal],
            normal_concat=concat,
            reduce=[tuple(edge) for edge in genotype.reduce],
            reduce_concat=concat,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            network = self._model.NetworkCIFAR(
                spec.channels, spec.num_classes, spec.layers, spec.auxiliary, cells
            )
        network.drop_path_prob = 0.0
        return network


def _drop_path(maps: Tensor, probability: float) -> Tensor:
    """The reference's, in place as there, but on the maps' own device."""
    if probability > 0:
        kept = 1 - probability
        mask = maps.new_empty((len(maps), 1, 1, 1)).bernoulli_(kept)
        maps.div_(kept)
        maps.mul_(mask)
    return maps
