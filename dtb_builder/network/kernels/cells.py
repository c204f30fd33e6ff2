"""The cells of a network in training mode, as one autograd function made of compiled passes.

Batch norms are fused: the convolution before a batch norm computes its statistics, and each pass
that reads the output scales and shifts the values as it loads them. A cell's nodes are written
straight into the concatenated output. A tensor that several operations read has one gradient
buffer, to which each backward pass adds.
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
    """Whether the passes support these modules, their dtype and their device."""
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
    """The outputs of some cells; they can be differentiated once.

    Args:
        library: the passes.
        cells: the cells of a Network, for which can_be_compiled returns True.
        stem: the input of the first cell, shape (images, channels, height, width).
        wanted: the numbers of the cells whose outputs are returned, ascending.
    """
    run = _Run(library, cells, wanted, dtype=stem.dtype)
    return list(_Cells.apply(run, stem, *cells.parameters()))


class RepeatedCells:
    """Records the calls of the first batch and replays them for the next, like a CUDA graph.

    Every batch uses the buffers of the first. So the cells may change only by in-place updates of
    their parameters, and the outputs and gradients of a batch are overwritten by the next one.
    """

    def __init__(self) -> None:
        self._run: _Run | None = None
        self._parameters: list[nn.Parameter] = []

    @property
    def is_recorded(self) -> bool:
        """Whether a first batch was recorded."""
        return self._run is not None

    def can_replay(self, stem: Tensor) -> bool:
        """Whether the input has the recorded shape, and the last backward pass has ended."""
        return self._run is not None and self._run.can_repeat(stem)

    def record(
        self, library: AnyLibrary, cells: nn.ModuleList, stem: Tensor, wanted: Sequence[int]
    ) -> list[Tensor]:
        """The outputs for the first batch; see run_compiled."""
        self._run = _Run(library, cells, wanted, dtype=stem.dtype, repeats=True)
        self._parameters = list(cells.parameters())
        return self.replay(stem)

    def replay(self, stem: Tensor) -> list[Tensor]:
        """The outputs for another batch, for which can_replay returns True."""
        return list(_Cells.apply(self._run, stem, *self._parameters))


def _in_fours(cells: nn.ModuleList, maps: Tensor) -> bool:
    """Whether all maps have a multiple of four channels, as the GPU kernels require."""
    return maps.shape[1] % 4 == 0 and all(p.shape[0] % 4 == 0 for p in cells.parameters())


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is in training mode without hooks; of a batch norm, with usual options."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if not module.training or any(getattr(module, name) for name in hooks):
        return False
    if not isinstance(module, nn.BatchNorm2d):
        return True
    return module.track_running_stats and module.affine and module.momentum is not None


class _Run:
    """The forward pass through the cells and its backward pass.

    Args:
        library: the passes.
        cells: the cells of a Network.
        wanted: the numbers of the cells whose outputs are returned.
        dtype: float32 or float64.
        repeats: whether to record the calls, and replay them for later batches.
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
        """Whether the backward pass has ended, and the input has the shape of the first."""
        return self._is_done and self._stem is not None and stem.shape == self._stem.values.shape

    def forward(self, stem: Tensor) -> list[Tensor]:
        """The outputs of the wanted cells."""
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
        """The gradient of the stem's output, and the gradients of the parameters that have one."""
        with_gradient = [gradient is not None for gradient in gradients]
        assert self._with_gradient in (None, with_gradient), "another output is in the loss"
        self._with_gradient = with_gradient
        for maps, gradient in zip(self._outputs, gradients, strict=True):
            if gradient is not None:
                # A copy, because later cells add their gradients to it.
                to, _ = maps.gradient_to_write()
                to.values.copy_(gradient)
        if self._backwards:
            for step in reversed(self._backwards):
                step()
            self._passes.finish()
            self._backwards.clear()
        else:
            for call, _ in (self._calls or ())[self._num_forward :]:
                call()
        self._is_done = True
        assert self._stem is not None
        assert self._stem.gradient is not None
        own = self._passes.gradients
        if self._calls is not None:  # new tensors on the same memory: autograd copies shared ones
            own = {parameter: gradient.detach() for parameter, gradient in own.items()}
        return self._stem.gradient.values, own

    def _cell(self, cell: Cell, before_last: Maps, last: Maps) -> Maps:
        """A cell's output; each node is written into its channels of it."""
        states = [
            self._preprocessed(cell.preprocess0, before_last),
            self._preprocessed(cell.preprocess1, last),
        ]
        channels, edges = states[0].channels, cell.edges
        out = states[0].new_empty(len(edges) // 2 * channels, stride=2 if cell.reduction else 1)
        nodes: list[Maps] = []

        def share_gradient() -> None:
            """Give each node its channels of the output's gradient."""
            assert out.gradient is not None
            for i, node in enumerate(nodes):
                node.gradient = out.gradient.part(i * channels, channels)
            self._passes.gather_sums([node for node in nodes if node.num_readers == 0])

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
            # An input that no edge reads has no gradient.
            if out.gradient is not None:
                term.backward(out.gradient, None)

        self._backwards.append(backward)
        return out

    def _join(self, terms: list[Term], node: Maps) -> None:
        self._passes.join(terms, node)

        def backward() -> None:
            assert node.gradient is not None
            self._passes.gather_sums([node])
            for term in reversed(terms):
                term.backward(node.gradient, term.weights)

        self._backwards.append(backward)


class _Cells(torch.autograd.Function):
    """The autograd function of a run."""

    @staticmethod
    def forward(ctx: Any, run: _Run, stem: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.run, ctx.parameters = run, parameters
        ctx.save_for_backward(stem, *parameters)
        # The run must not refer to this function: the cycle would keep both alive, and with them
        # tensors of one CUDA stream while a step is recorded on another.
        outputs = run.forward(stem.detach())
        return tuple(output.detach().to(stem.dtype) for output in outputs)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - as torch documents it
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        dtype = ctx.saved_tensors[0].dtype  # raises if one was changed in place since
        stem, by_parameter = ctx.run.backward(gradients)
        # pop, because autograd copies a gradient to which another reference exists.
        return (None, stem.to(dtype), *(by_parameter.pop(p, None) for p in ctx.parameters))
