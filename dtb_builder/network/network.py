"""The evaluation network: a stem, a stack of cells, a classifier."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dtb_builder.network.cell import Cell, DropPath
from dtb_builder.network.kernels import (
    AnyLibrary,
    Library,
    RepeatedCells,
    can_be_compiled,
    run_compiled,
)
from dtb_builder.network.operations import MatrixConvolution
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.space import Genotype

__all__ = ["Network"]

STEM_MULTIPLIER = 3


class AuxiliaryHead(nn.Module):
    """A second classifier, which reads the output of an inner cell."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            MatrixConvolution(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits of shape (batch, num_classes)."""
        return self.classifier(self.features(maps).flatten(1))


class Network(nn.Module):
    """A genotype with weights.

    Published DARTS weights load strictly: tensors have the same names in the same order.
    """

    def __init__(self, genotype: Genotype, spec: NetworkSpec) -> None:
        super().__init__()
        self.genotype = genotype
        self.spec = spec
        self._kernels: AnyLibrary | None = None
        self._repeated: RepeatedCells | None = None
        channels = spec.channels
        before_last = last = STEM_MULTIPLIER * channels
        self.stem = nn.Sequential(
            MatrixConvolution(spec.input_channels, last, 3, padding=1, bias=False),
            nn.BatchNorm2d(last),
        )
        self.cells = nn.ModuleList()
        for i in range(spec.layers):
            reduction = i in spec.reductions
            if reduction:
                channels *= 2
            cell = Cell(
                genotype.reduce if reduction else genotype.normal,
                (before_last, last),
                channels,
                reduction=reduction,
                after_reduction=i - 1 in spec.reductions,
            )
            self.cells.append(cell)
            before_last, last = last, cell.channels_out
        # The auxiliary head reads the last reduction, so it has as many channels as the classifier.
        self.auxiliary_head = AuxiliaryHead(last, spec.num_classes) if spec.auxiliary else None
        self.classifier = nn.Linear(last, spec.num_classes)
        # The layout decides the last bits; depthwise convolutions are fastest with channels last.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits of shape (batch, num_classes); in training also the auxiliary head's, if any.

        Args:
            images: shape (batch, input_channels, image_size, image_size).
        """
        inner, last = self._cell_outputs(self.stem(images))
        # Not AdaptiveAvgPool2d: its backward pass is not deterministic on CUDA.
        logits = self.classifier(last.mean(dim=(2, 3)))
        if self.auxiliary_head is None or not self.training:
            return logits
        return logits, self.auxiliary_head(inner)

    def _cell_outputs(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The input of the auxiliary head, and that of the classifier before pooling."""
        wanted = (self.spec.auxiliary_cell, len(self.cells) - 1)
        library, repeated = self._kernels, self._repeated
        if repeated is not None and repeated.can_replay(maps):
            outputs = repeated.replay(maps)
            return outputs[0], outputs[-1]
        if library is not None and self.training and can_be_compiled(library, self.cells, maps):
            run = run_compiled if repeated is None or repeated.is_recorded else repeated.record
            outputs = run(library, self.cells, maps, wanted)
            return outputs[0], outputs[-1]
        before_last = last = inner = maps
        for i, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last)
            if i == self.spec.auxiliary_cell:
                inner = last
        return inner, last

    def use_kernels(self, library: AnyLibrary | None) -> None:
        """Train the cells with compiled passes where can_be_compiled allows it.

        They need float32 or float64 on the library's device, no autocast and no hooks. Evaluation
        always uses the modules, so that a stored state has its stored accuracy and loss to the last
        bit, with or without compiled passes.

        Args:
            library: the passes, or None to train with the modules.
        """
        self._kernels = library

    @contextmanager
    def repeating_passes(self) -> Iterator[None]:
        """Within, the calls of the first batch are replayed for later batches of its size.

        Only on a CPU, where a small network would otherwise spend most of its time in Python. Each
        backward pass must end before the next forward pass; see RepeatedCells.
        """
        self._repeated = RepeatedCells() if isinstance(self._kernels, Library) else None
        try:
            yield
        finally:
            self._repeated = None

    @property
    def kernels(self) -> AnyLibrary | None:
        """The compiled passes that train the cells, if any."""
        return self._kernels

    def set_drop_path(self, probability: float) -> None:
        """Set the probability with which an edge is dropped for a sample in training."""
        if not 0 <= probability < 1:
            raise ValueError(f"the drop-path probability must be in [0, 1), got {probability}")
        for module in self.modules():
            if isinstance(module, DropPath):
                module.probability = probability
