"""The cells of a network in training, as one differentiable function of compiled passes.

A batch norm is never a pass of its own: its statistics are gathered by the convolution before it,
and whoever reads its output scales and shifts on the way. A cell's nodes are written where the
concatenation wants them, and gradients of what is read more than once are added in place.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dtb_builder.network.cell import Cell
from dtb_builder.network.kernels.cuda import CudaLibrary
from dtb_builder.network.kernels.find import AnyLibrary
from dtb_builder.network.kernels.maps import Maps, Term
from dtb_builder.network.kernels.passes import Call, NetworkPasses

__all__ = ["RepeatedCells", "can_be_compiled", "run_compiled"]


def can_be_compiled(library: AnyLibrary, cells: nn.ModuleList, maps: Tensor) -> bool:
    """Whether the passes compute what the modules, as these stand, would in training."""
    device_type = library.device_type
    return (
        maps.device.type == device_type
        and maps.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled(device_type)
        and (not isinstance(library, CudaLibrary) or _in_fours(cells, maps))
        and all(_is_plain(module) for module in cells.modules())
        and all(parameter.dtype == maps.dtype for parameter in cells.parameters())
    )


def run_compiled(
    library: AnyLibrary, cells: nn.ModuleList, stem: Tensor, wanted: Sequence[int]
) -> list[Tensor]:
    """The outputs of the cells whose numbers are wanted; differentiable once.

    Args:
        library: the passes.
        cells: as a Network has them; can_be_compiled is true of them.
        stem: the input of the first cell.
        wanted: numbers of cells, ascending.
    """
    run = _Run(library, cells, wanted, dtype=stem.dtype)
    return list(_Cells.apply(run, stem, *cells.parameters()))


class RepeatedCells:
    """The same for batch after batch: what was called for the first is called again, in its memory.

    Nobody may change the cells meanwhile, except for values in place, nor keep outputs or gradients
    of a batch for longer than it takes to learn from it: the next one overwrites them.
    """

    def __init__(self) -> None:
        self._run: _Run | None = None
        self._parameters: list[nn.Parameter] = []

    @property
    def begun(self) -> bool:
        """Whether there was a first batch."""
        return self._run is not None

    def fit(self, stem: Tensor) -> bool:
        """Whether these maps have the shape of the first, of which nothing more is to come."""
        return self._run is not None and self._run.can_repeat(stem)

    def first(
        self, library: AnyLibrary, cells: nn.ModuleList, stem: Tensor, wanted: Sequence[int]
    ) -> list[Tensor]:
        """See run_compiled."""
        self._run = _Run(library, cells, wanted, dtype=stem.dtype, repeats=True)
        self._parameters = list(cells.parameters())
        return self.again(stem)

    def again(self, stem: Tensor) -> list[Tensor]:
        """The outputs for other maps that fit."""
        return list(_Cells.apply(self._run, stem, *self._parameters))


def _in_fours(cells: nn.ModuleList, maps: Tensor) -> bool:
    """Whether all maps have a multiple of four channels, which the passes for a GPU need."""
    return maps.shape[1] % 4 == 0 and all(p.shape[0] % 4 == 0 for p in cells.parameters())


def _is_plain(module: nn.Module) -> bool:
    """Whether a module trains, has no hooks, and is the norm it was."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if not module.training or any(getattr(module, name) for name in hooks):
        return False
    if not isinstance(module, nn.BatchNorm2d):
        return True
    return module.track_running_stats and module.affine and module.momentum is not None


class _Run:
    """One pass through cells: forward, and backward if asked.

    Args:
        library: the passes.
        cells: what to pass through.
        wanted: numbers of the cells whose outputs are.
        dtype: float32 or float64.
        repeats: whether more passes follow the first, once its backward pass has ended.
    """

    def __init__(
        self,
        library: AnyLibrary,
        cells: nn.ModuleList,
        wanted: Sequence[int],
        *,
        dtype: torch.dtype,
        repeats: bool = False,
    ) -> None:
        self._cells, self._wanted, self._dtype = cells, wanted, library.maps_dtype(dtype)
        self._calls: list[Call] | None = [] if repeats else None
        self._passes = NetworkPasses(library, dtype=self._dtype, record=self._calls)
        self._backwards: list[Callable[[], None]] = []
        self._stem: Maps | None = None
        self._outputs: list[Maps] = []
        self._num_forward = 0
        self._with_gradient: list[bool] | None = None
        self._is_done = False

    def can_repeat(self, stem: Tensor) -> bool:
        """Whether the backward pass has ended, and these maps have the shape of the first."""
        return self._is_done and self._stem is not None and stem.shape == self._stem.values.shape

    def forward(self, stem: Tensor) -> list[Tensor]:
        """The outputs of the cells whose numbers are wanted."""
        if self._is_done:
            assert self._stem is not None
            assert self._calls is not None
            self._is_done = False
            self._stem.values.copy_(stem)
            for call, _ in self._calls[: self._num_forward]:
                call()
            return [maps.values for maps in self._outputs]
        stem = stem.to(self._dtype).contiguous(memory_format=torch.channels_last)
        self._stem = before_last = last = Maps(stem, stem.shape[1])
        for i, cell in enumerate(self._cells):
            assert isinstance(cell, Cell)
            before_last, last = last, self._cell(cell, before_last, last)
            if i in self._wanted:
                self._outputs.append(last)
        self._passes.count_batch()
        self._num_forward = len(self._calls or ())
        return [maps.values for maps in self._outputs]

    def backward(self, gradients: Sequence[Tensor | None]) -> tuple[Tensor, dict[Tensor, Tensor]]:
        """The gradient of the stem's maps, and those of the parameters that have any."""
        with_gradient = [gradient is not None for gradient in gradients]
        assert self._with_gradient in (None, with_gradient), "other outputs were learnt from"
        self._with_gradient = with_gradient
        for maps, gradient in zip(self._outputs, gradients, strict=True):
            if gradient is not None:
                # A copy: what later cells pass back is added to it.
                to, _ = maps.gradient_to_write()
                to.values.copy_(gradient)
        if self._backwards:
            for step in reversed(self._backwards):
                step()
            self._passes.meet()
            self._backwards.clear()
        else:
            for call, _ in (self._calls or ())[self._num_forward :]:
                call()
        self._is_done = True
        assert self._stem is not None
        assert self._stem.gradient is not None
        own = self._passes.gradients
        if self._calls is not None:  # others in the same memory, which nobody else holds
            own = {parameter: gradient.detach() for parameter, gradient in own.items()}
        return self._stem.gradient.values, own

    def _cell(self, cell: Cell, before_last: Maps, last: Maps) -> Maps:
        """A cell's output; its nodes are written where their concatenation wants them."""
        states = [
            self._preprocessed(cell.preprocess0, before_last),
            self._preprocessed(cell.preprocess1, last),
        ]
        channels, edges = states[0].channels, cell.edges
        out = states[0].room(len(edges) // 2 * channels, stride=2 if cell.reduction else 1)
        nodes: list[Maps] = []

        def share_gradient() -> None:
            """Let each node add to its part of the output's gradient."""
            assert out.gradient is not None
            for i, node in enumerate(nodes):
                node.gradient = out.gradient.part(i * channels, channels)

        for i in range(0, len(edges), 2):
            terms = [
                self._passes.edge(operation, states[predecessor], cell.drop_path)
                for operation, predecessor in edges[i : i + 2]
            ]
            node = out.part(i // 2 * channels, channels)
            self._join(terms, node)
            nodes.append(node)
            states.append(node)
        self._backwards.append(share_gradient)
        return out

    def _preprocessed(self, module: nn.Module, maps: Maps) -> Maps:
        term = self._passes.preprocessing(module, maps)
        out = self._passes.normed(term)

        def backward() -> None:
            # An older input that no edge reads has no gradient.
            if out.gradient is not None:
                term.backward(out.gradient, None)

        self._backwards.append(backward)
        return out

    def _join(self, terms: list[Term], node: Maps) -> None:
        self._passes.join(terms, node)

        def backward() -> None:
            assert node.gradient is not None
            for term in reversed(terms):
                term.backward(node.gradient, term.weights)

        self._backwards.append(backward)


class _Cells(torch.autograd.Function):
    """A run as autograd sees it."""

    @staticmethod
    def forward(ctx: Any, run: _Run, stem: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.run, ctx.parameters = run, parameters
        ctx.save_for_backward(stem, *parameters)
        # The run must not keep a reference to this function. Neither could be freed then, and
        # tensors of one CUDA stream would still be alive when a step is recorded on another.
        outputs = run.forward(stem.detach())
        return tuple(output.detach().to(stem.dtype) for output in outputs)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - as torch documents it
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        dtype = ctx.saved_tensors[0].dtype  # raises if one of them was changed in place meanwhile
        stem, by_parameter = ctx.run.backward(gradients)
        # Autograd copies a gradient that somebody else still holds.
        return (None, stem.to(dtype), *(by_parameter.pop(p, None) for p in ctx.parameters))
