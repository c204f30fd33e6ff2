"""The cells of a network as one differentiable function of compiled passes.

A batch norm is never a pass of its own: its statistics are gathered by the convolution before it,
and whoever reads its output scales and shifts on the way. A cell's nodes are written where the
concatenation wants them, and gradients of what is read more than once are added in place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dtb_builder.network.cell import Cell, DropPath
from dtb_builder.network.kernels.library import Library
from dtb_builder.network.operations import FactorizedReduce

__all__ = ["can_be_compiled", "run_compiled"]


def can_be_compiled(cells: nn.ModuleList, maps: Tensor) -> bool:
    """Whether the passes compute what the modules would, as these stand, for such maps."""
    training = cells.training
    return (
        maps.device.type == "cpu"
        and maps.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and (training or not torch.is_grad_enabled())
        and all(_is_plain(module, training) for module in cells.modules())
        and all(parameter.dtype == maps.dtype for parameter in cells.parameters())
    )


def run_compiled(
    library: Library, cells: nn.ModuleList, stem: Tensor, wanted: Sequence[int]
) -> list[Tensor]:
    """The outputs of the cells whose numbers are wanted; differentiable once.

    Args:
        library: the passes.
        cells: as a Network has them; can_be_compiled is true of them.
        stem: the input of the first cell.
        wanted: numbers of cells, ascending.
    """
    run = _Run(library, training=cells.training, dtype=stem.dtype)
    if torch.is_grad_enabled():
        return list(_Cells.apply(run, cells, wanted, stem, *cells.parameters()))
    return run.forward(cells, stem, wanted)


def _is_plain(module: nn.Module, training: bool) -> bool:
    """Whether a module has no hooks, is in the mode of the others, and is the norm it was."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if module.training != training or any(getattr(module, name) for name in hooks):
        return False
    if not isinstance(module, nn.BatchNorm2d):
        return True
    return module.track_running_stats and module.affine and module.momentum is not None


@dataclass(eq=False)
class Maps:
    """Some channels of a batch of maps in memory, and the gradient that has come for them so far.

    Attributes:
        values: shape (images, channels, height, width), channels last.
        stride: elements from a pixel to the next.
        gradient: of the same layout, or None before the first has come.
    """

    values: Tensor
    stride: int
    gradient: "Maps | None" = field(default=None, repr=False)

    @classmethod
    def empty(cls, like: Tensor, channels: int, height: int, width: int) -> "Maps":
        shape = (len(like), channels, height, width)
        values = torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last)
        return cls(values, channels)

    @property
    def size(self) -> tuple[int, int, int]:
        images, _, height, width = self.values.shape
        return images, height, width

    @property
    def channels(self) -> int:
        return self.values.shape[1]

    def part(self, first: int, channels: int) -> "Maps":
        """Some of the channels, with the same part of the gradient that there is by now."""
        gradient = None if self.gradient is None else self.gradient.part(first, channels)
        return Maps(self.values.narrow(1, first, channels), self.stride, gradient)

    def gradient_to_write(self) -> tuple["Maps", bool]:
        """Where the next gradient goes, and whether it is to be added to what is there."""
        if self.gradient is not None:
            return self.gradient, True
        self.gradient = Maps.empty(self.values, self.channels, *self.values.shape[2:])
        return self.gradient, False


@dataclass(eq=False)
class Norm:
    """What a batch norm does to the maps of a convolution.

    Attributes:
        scale: per channel, after which comes shift.
        mean: of the batch, float64; with inverse, one over its deviation, for the way back.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor | None = None
    inverse: Tensor | None = None


@dataclass(eq=False)
class Term:
    """One edge's share of a node.

    Attributes:
        maps: before the batch norm and drop-path.
        norm: None where the operation ends without one.
        weights: what drop-path multiplies each image with, or None.
        backward: takes the gradient of the share and passes it on.
    """

    maps: Maps
    norm: Norm | None
    backward: "Callable[[Maps, Tensor | None], None]"
    weights: Tensor | None = None


class _Run:
    """One pass through cells: forward, and backward if asked.

    Args:
        library: the passes.
        training: whether batch norms use, and track, the statistics of the batch.
        dtype: float32 or float64.
    """

    def __init__(self, library: Library, *, training: bool, dtype: torch.dtype) -> None:
        self._library = library
        self._training = training
        self._dtype = dtype
        self._backwards: list[Callable[[], None]] = []
        self._gradients: dict[Tensor, Tensor] = {}
        self._outputs: list[Maps] = []

    def forward(self, cells: nn.ModuleList, stem: Tensor, wanted: Sequence[int]) -> list[Tensor]:
        stem = stem.contiguous(memory_format=torch.channels_last)
        self._stem = before_last = last = Maps(stem, stem.shape[1])
        self._outputs = []
        for i, cell in enumerate(cells):
            assert isinstance(cell, Cell)
            before_last, last = last, self._cell(cell, before_last, last)
            if i in wanted:
                self._outputs.append(last)
        return [maps.values for maps in self._outputs]

    def backward(self, gradients: Sequence[Tensor | None]) -> tuple[Tensor, dict[Tensor, Tensor]]:
        """The gradient of the stem's maps, and those of the parameters that have any."""
        for maps, gradient in zip(self._outputs, gradients, strict=True):
            if gradient is not None:
                # A copy: what later cells pass back is added to it.
                values = torch.empty_like(maps.values, memory_format=torch.channels_last)
                maps.gradient = Maps(values.copy_(gradient), maps.channels)
        for step in reversed(self._backwards):
            step()
        self._backwards.clear()
        assert self._stem.gradient is not None
        return self._stem.gradient.values, self._gradients

    def _run(self, name: str, *arguments: Any) -> None:
        self._library.run(name, self._dtype, *arguments)

    def _cell(self, cell: Cell, before_last: Maps, last: Maps) -> Maps:
        states = [
            self._preprocessed(cell.preprocess0, before_last),
            self._preprocessed(cell.preprocess1, last),
        ]
        _, height, width = states[0].size
        channels = states[0].channels
        edges = cell.edges
        if cell.reduction:
            height, width = -(-height // 2), -(-width // 2)
        out = Maps.empty(last.values, len(edges) // 2 * channels, height, width)
        nodes: list[Maps] = []

        def share_gradient() -> None:
            """Let each node add to its part of the output's gradient."""
            assert out.gradient is not None
            for i, node in enumerate(nodes):
                node.gradient = out.gradient.part(i * channels, channels)

        for i in range(0, len(edges), 2):
            terms = [
                self._term(operation, states[predecessor], cell.drop_path)
                for operation, predecessor in edges[i : i + 2]
            ]
            node = out.part(i // 2 * channels, channels)
            self._join(terms, node)
            nodes.append(node)
            states.append(node)
        self._backwards.append(share_gradient)
        return out

    def _preprocessed(self, module: nn.Module, maps: Maps) -> Maps:
        term = (
            self._reduce(module, maps)
            if isinstance(module, FactorizedReduce)
            else (self._pointwise(module, maps))
        )
        out = Maps.empty(term.maps.values, term.maps.channels, *term.maps.size[1:])
        norm = term.norm
        assert norm is not None
        images, height, width = out.size
        self._run(
            "copy",
            term.maps.values,
            term.maps.stride,
            norm.scale,
            norm.shift,
            None,
            images,
            height * width,
            out.channels,
            out.values,
            out.stride,
            0,
        )

        def backward() -> None:
            if out.gradient is not None:
                term.backward(out.gradient, None)

        self._backwards.append(backward)
        return out

    def _join(self, terms: list[Term], node: Maps) -> None:
        images, height, width = node.size
        arguments: list[Any] = []
        for term in terms:
            scale, shift = (term.norm.scale, term.norm.shift) if term.norm else (None, None)
            arguments += [term.maps.values, term.maps.stride, scale, shift, term.weights]
        self._run(
            "join", *arguments, images, height * width, node.channels, node.values, node.stride
        )

        def backward() -> None:
            assert node.gradient is not None
            for term in reversed(terms):
                term.backward(node.gradient, term.weights)

        self._backwards.append(backward)

    def _term(self, operation: nn.Module, maps: Maps, drop_path: DropPath) -> Term:
        if isinstance(operation, nn.Identity):
            return self._identity(maps)
        if isinstance(operation, nn.MaxPool2d | nn.AvgPool2d):
            term = self._pool(operation, maps)
        elif isinstance(operation, FactorizedReduce):
            term = self._reduce(operation, maps)
        else:
            term = self._blocks(operation, maps)
        if drop_path.training and drop_path.probability > 0:
            kept = 1 - drop_path.probability
            weights = maps.values.new_empty((len(maps.values), 1, 1, 1))
            term.weights = weights.bernoulli_(kept).div_(kept)
        return term

    def _identity(self, maps: Maps) -> Term:
        def backward(gradient: Maps, weights: Tensor | None) -> None:
            to, add = maps.gradient_to_write()
            images, height, width = maps.size
            self._run(
                "copy",
                gradient.values,
                gradient.stride,
                None,
                None,
                weights,
                images,
                height * width,
                maps.channels,
                to.values,
                to.stride,
                add,
            )

        return Term(maps, None, backward)

    def _pool(self, pool: nn.MaxPool2d | nn.AvgPool2d, maps: Maps) -> Term:
        stride = pool.stride
        images, height, width = maps.size
        out = Maps.empty(maps.values, maps.channels, -(-height // stride), -(-width // stride))
        which = None
        if isinstance(pool, nn.MaxPool2d):
            which = torch.empty(out.values.numel(), dtype=torch.uint8)
        self._run(
            "pool_forward",
            maps.values,
            maps.stride,
            images,
            height,
            width,
            maps.channels,
            stride,
            out.values,
            which,
        )

        def backward(gradient: Maps, weights: Tensor | None) -> None:
            to, add = maps.gradient_to_write()
            self._run(
                "pool_backward",
                gradient.values,
                gradient.stride,
                weights,
                which,
                images,
                height,
                width,
                maps.channels,
                stride,
                to.values,
                to.stride,
                add,
            )

        return Term(out, None, backward)

    def _pointwise(self, module: nn.Module, maps: Maps) -> Term:
        _, convolution, batch_norm = module.op
        out = Maps.empty(maps.values, convolution.out_channels, *maps.size[1:])
        statistics = self._statistics(out.channels)
        self._run(
            "pointwise_forward",
            maps.values,
            maps.stride,
            *maps.size,
            maps.channels,
            1,
            0,
            convolution.weight,
            out.channels,
            out.values,
            out.stride,
            *statistics,
        )
        norm = self._norm(batch_norm, out, *statistics)

        def backward(gradient: Maps, weights: Tensor | None) -> None:
            before = self._before_norm(batch_norm, norm, gradient, weights, out)
            to, add = maps.gradient_to_write()
            self._run(
                "pointwise_backward",
                gradient.values,
                gradient.stride,
                weights,
                out.values,
                out.stride,
                *before,
                maps.values,
                maps.stride,
                *maps.size,
                maps.channels,
                1,
                0,
                convolution.weight,
                out.channels,
                to.values,
                to.stride,
                add,
                self._gradient_of(convolution.weight),
            )

        return Term(out, norm, backward)

    def _reduce(self, reduce: FactorizedReduce, maps: Maps) -> Term:
        images, height, width = maps.size
        convolutions = (reduce.conv_1, reduce.conv_2)
        half = reduce.conv_1.out_channels
        out = Maps.empty(maps.values, 2 * half, -(-height // 2), -(-width // 2))
        mean, squares = self._statistics(out.channels)
        for i, convolution in enumerate(convolutions):
            part = out.part(i * half, half)
            self._run(
                "pointwise_forward",
                maps.values,
                maps.stride,
                images,
                height,
                width,
                maps.channels,
                2,
                i,
                convolution.weight,
                half,
                part.values,
                out.stride,
                None if mean is None else mean[i * half :],
                None if squares is None else squares[i * half :],
            )
        norm = self._norm(reduce.bn, out, mean, squares)

        def backward(gradient: Maps, weights: Tensor | None) -> None:
            before = self._before_norm(reduce.bn, norm, gradient, weights, out)
            to, add = maps.gradient_to_write()
            if not add:
                to.values.zero_()
            for i, convolution in enumerate(convolutions):
                self._run(
                    "pointwise_backward",
                    gradient.part(i * half, half).values,
                    gradient.stride,
                    weights,
                    out.part(i * half, half).values,
                    out.stride,
                    *(values[i * half :] for values in before),
                    maps.values,
                    maps.stride,
                    images,
                    height,
                    width,
                    maps.channels,
                    2,
                    i,
                    convolution.weight,
                    half,
                    to.values,
                    to.stride,
                    1,
                    self._gradient_of(convolution.weight),
                )

        return Term(out, norm, backward)

    def _blocks(self, module: nn.Module, maps: Maps) -> Term:
        """ReLU, depthwise, 1x1 convolution, batch norm, once or twice."""
        layers = list(module.op)
        term = None
        for i in range(0, len(layers), 4):
            term = self._block(layers[i + 1 : i + 4], maps, term)
            maps = term.maps
        assert term is not None
        return term

    def _block(self, layers: list[Any], maps: Maps, before: Term | None) -> Term:
        """A block; `before` is the term of the block whose batch norm it reads, if any."""
        depthwise, pointwise, batch_norm = layers
        kernel, dilation, stride = (
            depthwise.kernel_size[0],
            depthwise.dilation[0],
            depthwise.stride[0],
        )
        images, height, width = maps.size
        channels = maps.channels
        out = Maps.empty(maps.values, channels, -(-height // stride), -(-width // stride))
        statistics = self._statistics(channels)
        scale, shift = (before.norm.scale, before.norm.shift) if before else (None, None)
        shape = (images, height, width, channels, kernel, dilation, stride)
        self._run(
            "block_forward",
            maps.values,
            maps.stride,
            scale,
            shift,
            *shape,
            depthwise.weight,
            pointwise.weight,
            out.values,
            *statistics,
        )
        norm = self._norm(batch_norm, out, *statistics)

        def backward(
            gradient: Maps, weights: Tensor | None, sums: tuple[Tensor, Tensor] | None = None
        ) -> None:
            coefficients = self._before_norm(batch_norm, norm, gradient, weights, out, sums)
            to, add = maps.gradient_to_write()
            inner = self._statistics(channels) if before else (None, None)
            self._run(
                "block_backward",
                gradient.values,
                gradient.stride,
                weights,
                out.values,
                *coefficients,
                maps.values,
                maps.stride,
                scale,
                shift,
                before.norm.mean if before else None,
                *shape,
                depthwise.weight,
                pointwise.weight,
                to.values,
                to.stride,
                add,
                self._gradient_of(depthwise.weight),
                self._gradient_of(pointwise.weight),
                *inner,
            )
            if before:
                before.backward(to, None, inner)

        return Term(out, norm, backward)

    def _statistics(self, channels: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Room for two float64 sums per channel, where batch norms look at the batch."""
        if not self._training:
            return None, None
        mean, squares = torch.zeros(2, channels, dtype=torch.float64)
        return mean, squares

    def _norm(
        self, batch_norm: nn.BatchNorm2d, maps: Maps, mean: Tensor | None, squares: Tensor | None
    ) -> Norm:
        weight, bias = batch_norm.weight, batch_norm.bias
        running_mean, running_var = batch_norm.running_mean, batch_norm.running_var
        assert running_mean is not None
        assert running_var is not None
        if mean is None or squares is None:
            scale = weight * (running_var + batch_norm.eps).rsqrt()
            return Norm(scale, bias - running_mean * scale)
        scale, shift = torch.empty_like(weight), torch.empty_like(bias)
        inverse = torch.empty_like(mean)
        images, height, width = maps.size
        assert batch_norm.momentum is not None
        self._run(
            "norm_forward",
            mean,
            squares,
            images * height * width,
            weight,
            bias,
            batch_norm.eps,
            batch_norm.momentum,
            running_mean,
            running_var,
            maps.channels,
            scale,
            shift,
            inverse,
        )
        assert batch_norm.num_batches_tracked is not None
        batch_norm.num_batches_tracked += 1
        return Norm(scale, shift, mean, inverse)

    def _before_norm(
        self,
        batch_norm: nn.BatchNorm2d,
        norm: Norm,
        gradient: Maps,
        weights: Tensor | None,
        maps: Maps,
        sums: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What makes a gradient after a batch norm one before it: a, b and c of a g + b y + c."""
        images, height, width = maps.size
        assert norm.mean is not None
        assert norm.inverse is not None
        if sums is None:
            sums = torch.zeros(2, maps.channels, dtype=torch.float64).unbind()
            self._run(
                "norm_sums",
                gradient.values,
                gradient.stride,
                weights,
                maps.values,
                maps.stride,
                norm.mean,
                images,
                height * width,
                maps.channels,
                *sums,
            )
        a, b, c = (torch.empty_like(norm.scale) for _ in range(3))
        self._run(
            "norm_backward",
            *sums,
            norm.mean,
            norm.inverse,
            images * height * width,
            batch_norm.weight,
            maps.channels,
            self._gradient_of(batch_norm.weight),
            self._gradient_of(batch_norm.bias),
            a,
            b,
            c,
        )
        return a, b, c

    def _gradient_of(self, parameter: Tensor) -> Tensor:
        self._gradients[parameter] = torch.empty_like(parameter)
        return self._gradients[parameter]


class _Cells(torch.autograd.Function):
    """A run as autograd sees it."""

    @staticmethod
    def forward(
        ctx: Any,
        run: _Run,
        cells: nn.ModuleList,
        wanted: Sequence[int],
        stem: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.run, ctx.parameters = run, parameters
        ctx.save_for_backward(stem, *parameters)
        return tuple(run.forward(cells, stem, wanted))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors  # raises if one of them was changed in place meanwhile
        stem, by_parameter = ctx.run.backward(gradients)
        return (None, None, None, stem, *(by_parameter.get(p) for p in ctx.parameters))
