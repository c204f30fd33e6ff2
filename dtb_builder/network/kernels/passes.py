"""Each operation of a cell as a forward pass and a backward pass of compiled code."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dtb_builder.network.cell import DropPath
from dtb_builder.network.kernels.find import AnyLibrary
from dtb_builder.network.kernels.maps import Maps, Norm, Term
from dtb_builder.network.operations import FactorizedReduce

__all__ = ["Call", "NetworkPasses"]

Sums = dict[str, Tensor]
"""Two float64 sums per channel, by the names of a pass's arguments."""

Call = tuple[Callable[[], object], object]
"""A recorded call, and the tensors that it needs alive."""

_NO_NORM = {"scale": None, "shift": None}
_NO_SUMS = {"g_sums": None, "gx_sums": None}


class NetworkPasses:
    """The operations of the DARTS space, run by compiled passes.

    Args:
        library: the passes.
        dtype: of the maps, float32 or float64.
        record: a list to which every call is appended, with the tensors that it uses. Replaying
            the list computes the same on the values that those tensors then have. None records
            nothing.

    Attributes:
        gradients: the parameters' gradients, from the backward passes that have run.
    """

    def __init__(
        self, library: AnyLibrary, *, dtype: torch.dtype, record: list[Call] | None = None
    ) -> None:
        self._library = library.new_step()
        self._dtype = dtype
        self._computed_dtype = torch.promote_types(dtype, torch.float32)
        self._record = record
        self._batches_tracked: list[Tensor] = []
        self.gradients: dict[Tensor, Tensor] = {}

    def edge(self, operation: nn.Module, maps: Maps, drop_path: DropPath) -> Term:
        """An operation of make_operation, and the drop-path after it."""
        maps.num_readers += 1
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
            shape, dtype = (len(maps.values), 1, 1, 1), self._computed_dtype
            weights = maps.values.new_empty(shape, dtype=dtype)
            self._do(lambda: weights.bernoulli_(kept).div_(kept))
            term.weights = weights
        return term

    def preprocessing(self, module: nn.Module, maps: Maps) -> Term:
        """The preprocessing of a cell's input."""
        if isinstance(module, FactorizedReduce):
            return self._reduce(module, maps)
        return self._pointwise(list(module.op), maps)  # pyright: ignore[reportArgumentType]

    def normed(self, term: Term) -> Maps:
        """A term's maps after its batch norm; the caller runs the term's backward pass."""
        maps, norm = term.maps, term.norm
        assert norm is not None
        out = maps.new_empty()
        shape = {**norm.affine, **maps.flat_shape}
        self._call("copy", x=maps, weights=None, **shape, out=out, add=False)
        out.terms = [term]
        return out

    def join(self, terms: list[Term], node: Maps) -> None:
        """Write the sum of two terms."""
        arguments: dict[str, Any] = {}
        for name, term in zip(("one", "two"), terms, strict=True):
            affine = term.norm.affine if term.norm else _NO_NORM
            arguments |= {name: term.maps, f"{name}_weights": term.weights}
            arguments |= {f"{name}_{key}": value for key, value in affine.items()}
        self._call("join", **arguments, **node.flat_shape, out=node)
        node.terms = terms

    def gather_sums(self, nodes: list[Maps]) -> None:
        """Gather the sums of all batch norms before these nodes, whose gradients are whole.

        In one launch; on a CPU nothing is gained, and each batch norm's backward pass does it.
        """
        norms = [self._wanted(term, node) for node in nodes for term in self._pending(node)]
        if norms:
            self._call("norm_sums", norms=norms, **nodes[0].flat_shape)

    def finish(self) -> None:
        """Complete the gradients of all parameters, at the end of a backward pass."""
        self._library.finish()

    def count_batch(self) -> None:
        """Increment num_batches_tracked of all batch norms."""
        if counts := self._batches_tracked:
            # One call for all: on a GPU, a few launches instead of one per batch norm.
            self._do(lambda: torch._foreach_add_(counts, 1))  # pyright: ignore[reportPrivateImportUsage]
        self._batches_tracked = []

    def _identity(self, maps: Maps) -> Term:
        def backward(gradient: Maps, weights: Tensor | None) -> None:
            to, add = maps.gradient_to_write()
            shape = {**maps.flat_shape, **_NO_NORM}
            gathered = self._gathered(maps)
            self._call("copy", x=gradient, weights=weights, **shape, out=to, add=add, **gathered)

        return Term(maps, None, backward)

    def _pool(self, pool: nn.MaxPool2d | nn.AvgPool2d, maps: Maps) -> Term:
        stride = pool.stride
        assert isinstance(stride, int)
        out = maps.new_empty(stride=stride)
        # A maximum's backward pass needs to know which of the nine pixels was the largest.
        is_maximum = isinstance(pool, nn.MaxPool2d)
        num_values = out.values.numel()
        which = maps.values.new_empty(num_values, dtype=torch.uint8) if is_maximum else None
        shape = {**maps.shape, "s": stride, "which": which}
        self._call("pool_forward", x=maps, **shape, y=out.values)

        def backward(gradient: Maps, weights: Tensor | None) -> None:
            to, add = maps.gradient_to_write()
            gradients = {"g": gradient, "weights": weights, "x_gradient": to}
            self._call("pool_backward", **gradients, **shape, add=add, **self._gathered(maps))

        return Term(out, None, backward)

    def _pointwise(self, layers: list[Any], maps: Maps) -> Term:
        _, convolution, batch_norm = layers
        out = maps.new_empty(convolution.out_channels)
        sums = self._sums(out)
        shape = {"x": maps, **maps.shape, "step": 1, "offset": 0}
        shape |= {"weight": convolution.weight, "Co": out.channels}
        self._call("pointwise_forward", **shape, y=out, **sums)
        norm = self._norm(batch_norm, out, sums)

        def backward(gradient: Maps, weights: Tensor | None) -> None:
            before = self._before_norm(batch_norm, norm, gradient, weights, out)
            to, add = maps.gradient_to_write()
            own = self._gradients_of(weight=convolution.weight)
            gradients = {"g": gradient, "weights": weights, "y": out, **before, **own}
            self._call("pointwise_backward", **gradients, **shape, x_gradient=to, add=add)

        return Term(out, norm, backward)

    def _reduce(self, reduce: FactorizedReduce, maps: Maps) -> Term:
        """Two 1x1 convolutions of stride 2, each for half of the output channels."""
        half = reduce.conv_1.out_channels
        out = maps.new_empty(2 * half, stride=2)
        sums = self._sums(out)
        halves = []
        for i, convolution in enumerate((reduce.conv_1, reduce.conv_2)):
            shape = {"x": maps, **maps.shape, "step": 2, "offset": i}
            shape |= {"weight": convolution.weight, "Co": half}
            halves.append((i * half, shape))
            own = {key: values[i * half :] for key, values in sums.items()}
            self._call("pointwise_forward", **shape, y=out.part(i * half, half), **own)
        norm = self._norm(reduce.bn, out, sums)

        def backward(gradient: Maps, weights: Tensor | None) -> None:
            before = self._before_norm(reduce.bn, norm, gradient, weights, out)
            to, add = maps.gradient_to_write()
            if not add:
                self._do(to.values.zero_)  # neither convolution reads every pixel
            for first, shape in halves:
                gradients = {key: values[first:] for key, values in before.items()}
                gradients |= {"g": gradient.part(first, half), "y": out.part(first, half)}
                gradients |= {"weights": weights, **self._gradients_of(weight=shape["weight"])}
                self._call("pointwise_backward", **gradients, **shape, x_gradient=to, add=True)

        return Term(out, norm, backward)

    def _blocks(self, layers: list[Any], maps: Maps) -> Term:
        """ReLU, depthwise convolution, 1x1 convolution, batch norm, once or twice."""
        first = self._block(layers[1:4], maps, None)
        return self._block(layers[5:8], first.maps, first) if len(layers) > 4 else first

    def _block(self, layers: list[Any], maps: Maps, before: Term | None) -> Term:
        """A block; `before` is the term of the block before it, whose batch norm it applies."""
        depthwise, pointwise, batch_norm = layers
        stride = depthwise.stride[0]
        out = maps.new_empty(stride=stride)
        inner = before.norm if before else None
        shape = {"x": maps, **(inner.affine if inner else _NO_NORM), **maps.shape}
        shape |= {"k": depthwise.kernel_size[0], "d": depthwise.dilation[0], "s": stride}
        own = {"depthwise": depthwise.weight, "pointwise": pointwise.weight}
        shape |= {**own, "y": out.values, **self._library.between(out.values)}
        sums = self._sums(out)
        self._call("block_forward", **shape, **sums)
        norm = self._norm(batch_norm, out, sums)

        def backward(gradient: Maps, weights: Tensor | None) -> None:
            gradients = {"g": gradient, "weights": weights, **self._gradients_of(**own)}
            gradients |= self._before_norm(batch_norm, norm, gradient, weights, out)
            to, add = maps.gradient_to_write()
            gradients |= self._gathered_sums(before, maps)
            self._call("block_backward", **gradients, **shape, x_gradient=to, add=add)
            if before:
                before.backward(to, None)

        return Term(out, norm, backward)

    def _sums(self, maps: Maps) -> Sums:
        """Buffers for the batch statistics, which the pass that writes the maps computes."""
        mean, squares = self._library.sums(maps.channels, maps.num_pixels, maps.values)
        return {"mean": mean, "squares": squares}

    def _gradient_sums(self, maps: Maps) -> Sums:
        """Buffers for the sums of a gradient after a batch norm."""
        g_sums, gx_sums = self._library.sums(maps.channels, maps.num_pixels, maps.values)
        return {"g_sums": g_sums, "gx_sums": gx_sums}

    def _gathered_sums(self, before: Term | None, maps: Maps) -> dict[str, Any]:
        """The arguments by which a block gathers sums of the gradient that it writes, if it can.

        Args:
            before: the term of the block whose batch norm it reads, if any.
            maps: that it reads; their gradient is whole only after the last one has come.
        """
        term = before
        if before is None and maps.num_readers == 0:
            term = next(iter(self._pending(maps)), None)
        norm = term.norm if term else None
        found: dict[str, Any] = {"x_mean": norm.mean if norm else None, **_NO_SUMS}
        if norm:
            norm.sums = self._gradient_sums(maps)
            found |= norm.sums
        if self._library.gathers_sums:
            found |= {"normed": term.maps if term else None, "normed_stride": 0}
            found |= {"normed_weights": term.weights if term else None}
        return found

    def _gathered(self, maps: Maps) -> dict[str, Any]:
        """The argument by which a pass gathers the sums of a gradient whose last part it writes."""
        if maps.num_readers > 0 or not self._library.gathers_sums:
            return {}
        return {"norms": [self._wanted(term, None) for term in self._pending(maps)]}

    def _pending(self, maps: Maps) -> list[Term]:
        """The terms of these maps whose batch norms' sums the library can gather with others."""
        if not self._library.gathers_sums:
            return []
        return [term for term in maps.terms if term.norm and term.norm.sums is None]

    def _wanted(self, term: Term, node: Maps | None) -> dict[str, Any]:
        """A batch norm whose sums a pass gathers, from the gradient of a node or its own."""
        norm = term.norm
        assert norm is not None
        norm.sums = self._gradient_sums(term.maps)
        wanted = {"y": term.maps.values, "y_stride": term.maps.stride, "weights": term.weights}
        if node is not None:
            assert node.gradient is not None
            wanted |= {"g": node.gradient.values, "g_stride": node.gradient.stride}
        return {**wanted, "mean": norm.mean, **norm.sums}

    def _norm(self, batch_norm: nn.BatchNorm2d, maps: Maps, sums: Sums) -> Norm:
        """A batch norm with the batch's statistics; its running statistics are updated."""
        weight, bias, mean = batch_norm.weight, batch_norm.bias, sums["mean"]
        norm = Norm(
            scale=torch.empty_like(weight),
            shift=torch.empty_like(bias),
            mean=mean,
            inverse=mean.new_empty(len(mean)),
        )
        self._call(
            "norm_forward",
            C=maps.channels,
            count=maps.num_pixels,
            weight=weight,
            bias=bias,
            eps=batch_norm.eps,
            momentum=batch_norm.momentum,
            running_mean=batch_norm.running_mean,
            running_var=batch_norm.running_var,
            inverse=norm.inverse,
            **norm.affine,
            **sums,
        )
        assert batch_norm.num_batches_tracked is not None
        self._batches_tracked.append(batch_norm.num_batches_tracked)
        return norm

    def _before_norm(
        self,
        batch_norm: nn.BatchNorm2d,
        norm: Norm,
        gradient: Maps,
        weights: Tensor | None,
        maps: Maps,
    ) -> dict[str, Tensor]:
        """The backward pass of a batch norm, as coefficients of its input's gradient.

        That gradient is a g + b y + c0, where g is the gradient of the output and y the input. The
        pass that reads it computes it from the coefficients.
        """
        sums = norm.sums
        if sums is None:
            sums = self._gradient_sums(maps)
            inputs = {"g": gradient, "weights": weights, "y": maps, "mean": norm.mean}
            self._call("norm_sums", **inputs, **maps.flat_shape, **sums)
        coefficients = {name: torch.empty_like(norm.scale) for name in ("a", "b", "c0")}
        own = self._gradients_of(weight=batch_norm.weight, bias=batch_norm.bias)
        statistics = {"mean": norm.mean, "inverse": norm.inverse, "count": maps.num_pixels}
        shape = {"C": maps.channels, "weight": batch_norm.weight}
        self._call("norm_backward", **sums, **statistics, **shape, **own, **coefficients)
        return coefficients

    def _gradients_of(self, **parameters: Tensor) -> dict[str, Tensor]:
        """Buffers for the gradients of parameters, by the names of a pass's arguments."""
        own = {parameter: torch.empty_like(parameter) for parameter in parameters.values()}
        self.gradients |= own
        return {f"g_{name}": own[parameter] for name, parameter in parameters.items()}

    def _call(self, name: str, **arguments: Any) -> None:
        """Run a pass; an argument of type Maps becomes its values and its stride."""
        for key, value in list(arguments.items()):
            if isinstance(value, Maps):
                arguments |= {key: value.values, f"{key}_stride": value.stride}
        self._do(self._library.prepared(name, self._dtype, **arguments), arguments)

    def _do(self, call: Callable[[], object], needs: object = None) -> None:
        call()
        if self._record is not None:
            self._record.append((call, needs))
