"""What the edges of a cell do, in compiled passes, each with its way back."""

from typing import Any

import torch
from torch import Tensor, nn

from dtb_builder.network.cell import DropPath
from dtb_builder.network.kernels.find import AnyLibrary
from dtb_builder.network.kernels.maps import Maps, Norm, Term
from dtb_builder.network.operations import FactorizedReduce

__all__ = ["NetworkPasses"]

Sums = tuple[Tensor, Tensor]
"""Two float64 sums per channel."""


class NetworkPasses:
    """The operations of the DARTS space on maps.

    Args:
        library: the passes.
        training: whether batch norms use, and track, the statistics of the batch.
        dtype: of the maps.

    Attributes:
        gradients: of the parameters, as far as ways back have been gone.
    """

    def __init__(self, library: AnyLibrary, *, training: bool, dtype: torch.dtype) -> None:
        self._library = library.begin()
        self._training = training
        self._dtype = dtype
        self._batches_tracked: list[Tensor] = []
        self.gradients: dict[Tensor, Tensor] = {}

    def edge(self, operation: nn.Module, maps: Maps, drop_path: DropPath) -> Term:
        """An operation as make_operation makes it, and the drop-path after it."""
        if isinstance(operation, nn.Identity):
            return self._identity(maps)
        if isinstance(operation, nn.MaxPool2d | nn.AvgPool2d):
            term = self._pool(operation, maps)
        elif isinstance(operation, FactorizedReduce):
            term = self._reduce(operation, maps)
        else:
            term = self._blocks(list(operation.op), maps)  # pyright: ignore[reportArgumentType]
        if drop_path.training and drop_path.probability > 0:
            kept = 1 - drop_path.probability
            weights = maps.values.new_empty((len(maps.values), 1, 1, 1))
            term.weights = weights.bernoulli_(kept).div_(kept)
        return term

    def preprocessing(self, module: nn.Module, maps: Maps) -> Term:
        """What a cell does to an input before its edges read it."""
        if isinstance(module, FactorizedReduce):
            return self._reduce(module, maps)
        return self._pointwise(list(module.op), maps)  # pyright: ignore[reportArgumentType]

    def normed(self, term: Term) -> Maps:
        """A term's maps after its batch norm; their gradient is not led back to it."""
        maps, norm = term.maps, term.norm
        assert norm is not None
        out = Maps.empty(maps.values, maps.channels, *maps.size[1:])
        self._call("copy", maps, norm.scale, norm.shift, None, *out.pixels, out.channels, out, 0)
        return out

    def join(self, terms: list[Term], node: Maps) -> None:
        """Write the sum of two terms."""
        arguments: list[Any] = []
        for term in terms:
            scale, shift = (term.norm.scale, term.norm.shift) if term.norm else (None, None)
            arguments += [term.maps, scale, shift, term.weights]
        self._call("join", *arguments, *node.pixels, node.channels, node)

    def meet(self) -> None:
        """Let all gradients of parameters be there; the end of a way back."""
        self._library.meet()

    def count_batch(self) -> None:
        """Let the batch norms that looked at this batch count it, all in one call."""
        if self._batches_tracked:
            # On a GPU few kernels, where each norm for itself would launch one.
            torch._foreach_add_(self._batches_tracked, 1)  # pyright: ignore[reportPrivateImportUsage]
        self._batches_tracked.clear()

    def _identity(self, maps: Maps) -> Term:
        def backward(gradient: Maps, weights: Tensor | None) -> None:
            to, add = maps.gradient_to_write()
            self._call("copy", gradient, None, None, weights, *maps.pixels, maps.channels, to, add)

        return Term(maps, None, backward)

    def _pool(self, pool: nn.MaxPool2d | nn.AvgPool2d, maps: Maps) -> Term:
        stride = pool.stride
        assert isinstance(stride, int)
        _, height, width = maps.size
        out = Maps.empty(maps.values, maps.channels, -(-height // stride), -(-width // stride))
        # Which of the nine pixels was the largest.
        is_maximum = isinstance(pool, nn.MaxPool2d)
        num_values = out.values.numel()
        which = maps.values.new_empty(num_values, dtype=torch.uint8) if is_maximum else None
        shape = (*maps.size, maps.channels, stride)
        self._call("pool_forward", maps, *shape, out.values, which)

        def backward(gradient: Maps, weights: Tensor | None) -> None:
            to, add = maps.gradient_to_write()
            self._call("pool_backward", gradient, weights, which, *shape, to, add)

        return Term(out, None, backward)

    def _pointwise(self, layers: list[Any], maps: Maps) -> Term:
        _, convolution, batch_norm = layers
        weight = convolution.weight
        out = Maps.empty(maps.values, convolution.out_channels, *maps.size[1:])
        sums = self._sums(out)
        shape = (*maps.size, maps.channels, 1, 0, weight, out.channels)
        self._call("pointwise_forward", maps, *shape, out, *sums)
        norm = self._norm(batch_norm, out, *sums)

        def backward(gradient: Maps, weights: Tensor | None) -> None:
            before = self._before_norm(batch_norm, norm, gradient, weights, out)
            to, add = maps.gradient_to_write()
            gradients = (gradient, weights, out, *before)
            own = self._gradient_of(weight)
            self._call("pointwise_backward", *gradients, maps, *shape, to, add, own)

        return Term(out, norm, backward)

    def _reduce(self, reduce: FactorizedReduce, maps: Maps) -> Term:
        """Each convolution makes its half of the channels, from every second pixel."""
        _, height, width = maps.size
        half = reduce.conv_1.out_channels
        out = Maps.empty(maps.values, 2 * half, -(-height // 2), -(-width // 2))
        mean, squares = self._sums(out)
        shapes = [
            (i * half, (*maps.size, maps.channels, 2, i, convolution.weight, half))
            for i, convolution in enumerate((reduce.conv_1, reduce.conv_2))
        ]
        for first, shape in shapes:
            sums = (
                (None, None) if mean is None or squares is None else (mean[first:], squares[first:])
            )
            self._call("pointwise_forward", maps, *shape, out.part(first, half), *sums)
        norm = self._norm(reduce.bn, out, mean, squares)

        def backward(gradient: Maps, weights: Tensor | None) -> None:
            before = self._before_norm(reduce.bn, norm, gradient, weights, out)
            to, add = maps.gradient_to_write()
            if not add:
                to.values.zero_()  # some pixels are read by neither
            for first, shape in shapes:
                parts = (gradient.part(first, half), weights, out.part(first, half))
                coefficients = (values[first:] for values in before)
                own = self._gradient_of(shape[6])
                self._call("pointwise_backward", *parts, *coefficients, maps, *shape, to, True, own)

        return Term(out, norm, backward)

    def _blocks(self, layers: list[Any], maps: Maps) -> Term:
        """ReLU, depthwise convolution, 1x1 convolution, batch norm, once or twice."""
        first = self._block(layers[1:4], maps, None)
        return self._block(layers[5:8], first.maps, first) if len(layers) > 4 else first

    def _block(self, layers: list[Any], maps: Maps, before: Term | None) -> Term:
        """A block; `before` is the term of the block whose batch norm it reads, if any."""
        depthwise, pointwise, batch_norm = layers
        stride, channels = depthwise.stride[0], maps.channels
        _, height, width = maps.size
        out = Maps.empty(maps.values, channels, -(-height // stride), -(-width // stride))
        sums, between = self._sums(out), self._library.between(out.values)
        inner = before.norm if before else None
        affine = (inner.scale, inner.shift) if inner else (None, None)
        shape = (*maps.size, channels, depthwise.kernel_size[0], depthwise.dilation[0], stride)
        weights_of_both = (depthwise.weight, pointwise.weight)
        arguments = (*affine, *shape, *weights_of_both, out.values, *sums, between)
        self._call("block_forward", maps, *arguments)
        norm = self._norm(batch_norm, out, *sums)

        def backward(gradient: Maps, weights: Tensor | None, sums: Sums | None = None) -> None:
            coefficients = self._before_norm(batch_norm, norm, gradient, weights, out, sums)
            to, add = maps.gradient_to_write()
            own = map(self._gradient_of, weights_of_both)
            inner_mean = inner.mean if inner else None
            inner_sums = self._sums(maps) if inner else (None, None)
            self._call(
                "block_backward",
                *(gradient, weights, out.values, *coefficients),
                *(maps, *affine, inner_mean, *shape, *weights_of_both),
                *(to, add, *own, *inner_sums, between),
            )
            if before:
                before.backward(to, None, inner_sums)

        return Term(out, norm, backward)

    def _sums(self, maps: Maps) -> Sums | tuple[None, None]:
        """Room for two sums per channel of some maps, where batch norms look at the batch."""
        if not self._training:
            return None, None
        images, pixels = maps.pixels
        return self._library.sums(maps.channels, images * pixels, maps.values)

    def _norm(
        self, batch_norm: nn.BatchNorm2d, maps: Maps, mean: Tensor | None, squares: Tensor | None
    ) -> Norm:
        """What a batch norm does, by the batch's statistics or, without these, its running ones."""
        weight, bias = batch_norm.weight, batch_norm.bias
        running_mean, running_var = batch_norm.running_mean, batch_norm.running_var
        assert running_mean is not None
        assert running_var is not None
        if mean is None or squares is None:
            scale = weight * (running_var + batch_norm.eps).rsqrt()
            return Norm(scale, bias - running_mean * scale)
        scale, shift, inverse = (
            torch.empty_like(weight),
            torch.empty_like(bias),
            torch.empty(len(mean), dtype=mean.dtype, device=mean.device),
        )
        images, pixels = maps.pixels
        self._call(
            "norm_forward",
            *(mean, squares, images * pixels, weight, bias, batch_norm.eps, batch_norm.momentum),
            *(running_mean, running_var, maps.channels, scale, shift, inverse),
        )
        assert batch_norm.num_batches_tracked is not None
        self._batches_tracked.append(batch_norm.num_batches_tracked)
        return Norm(scale, shift, mean, inverse)

    def _before_norm(
        self,
        batch_norm: nn.BatchNorm2d,
        norm: Norm,
        gradient: Maps,
        weights: Tensor | None,
        maps: Maps,
        sums: Sums | None = None,
    ) -> list[Tensor]:
        """What makes a gradient after a batch norm one before it: a, b and c of a g + b y + c."""
        images, pixels = maps.pixels
        assert norm.mean is not None
        if sums is None:
            sums = self._library.sums(maps.channels, images * pixels, maps.values)
            arguments = (gradient, weights, maps, norm.mean, *maps.pixels, maps.channels)
            self._call("norm_sums", *arguments, *sums)
        coefficients = [torch.empty_like(norm.scale) for _ in range(3)]
        own = map(self._gradient_of, (batch_norm.weight, batch_norm.bias))
        self._call(
            "norm_backward",
            *(*sums, norm.mean, norm.inverse, images * pixels, batch_norm.weight, maps.channels),
            *(*own, *coefficients),
        )
        return coefficients

    def _gradient_of(self, parameter: Tensor) -> Tensor:
        self.gradients[parameter] = torch.empty_like(parameter)
        return self.gradients[parameter]

    def _call(self, name: str, *arguments: Any) -> None:
        """Run a pass; maps are given as their values and their stride."""
        flat: list[Any] = []
        for argument in arguments:
            flat += [argument.values, argument.stride] if isinstance(argument, Maps) else [argument]
        self._library.run(name, self._dtype, *flat)
