"""Networks of NAS-Bench-101, to compute scores for its table of accuracies."""

import functools

import torch
from torch import Tensor, nn

from dtb_builder.tables.cell101 import Cell101
from dtb_builder.tables.units101 import CELLS_PER_STACK, NUM_STACKS

__all__ = ["Network101"]


class Network101(nn.Module):
    """A stem, three stacks of three cells, and a classifier; maps are halved between stacks."""

    def __init__(self, cell: Cell101, *, channels: int = 128, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, channels, 3)]
        channels_in = channels
        for i in range(NUM_STACKS):
            if i:
                layers.append(nn.MaxPool2d(2))
                channels *= 2
            for _ in range(CELLS_PER_STACK):
                layers.append(_CellModule(cell, channels_in, channels))
                channels_in = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (images, num_classes), for images of shape (images, 3, size, size)."""
        return self.classifier(self.features(images).mean(dim=(2, 3)))


class _CellModule(nn.Module):
    def __init__(self, cell: Cell101, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self._cell = cell
        self._channels = cell.channels(channels_out)
        self.operations = nn.ModuleList(
            _operation(name, self._channels[vertex])
            for vertex, name in enumerate(cell.operations, start=1)
        )
        widths = {**self._channels, cell.output: channels_out}
        self.projections = nn.ModuleDict(
            {str(end): _convolution(channels_in, widths[end], 1) for i, end in cell.edges if i == 0}
        )

    def forward(self, maps: Tensor) -> Tensor:
        values: dict[int, Tensor] = {}
        for vertex, operation in enumerate(self.operations, start=1):
            width = self._channels[vertex]
            inner = [values[i][:, :width] for i in self._cell.predecessors(vertex) if i]
            values[vertex] = operation(self._with_input(inner, maps, vertex))
        output = self._cell.output
        read = [values[i] for i in self._cell.predecessors(output) if i]
        joined = [torch.cat(read, dim=1)] if read else []
        return self._with_input(joined, maps, output)

    def _with_input(self, terms: list[Tensor], maps: Tensor, vertex: int) -> Tensor:
        """The sum of terms and, if the vertex reads it, the cell's projected input."""
        name = str(vertex)
        if name in self.projections:
            terms = [self.projections[name](maps), *terms]
        return functools.reduce(torch.add, terms)


def _operation(name: str, channels: int) -> nn.Module:
    match name:
        case "conv1x1-bn-relu":
            return _convolution(channels, channels, 1)
        case "conv3x3-bn-relu":
            return _convolution(channels, channels, 3)
    return nn.MaxPool2d(3, stride=1, padding=1)


def _convolution(channels_in: int, channels_out: int, kernel_size: int) -> nn.Module:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )
