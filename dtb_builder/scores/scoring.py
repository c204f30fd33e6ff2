"""Compute all scores of a network on a probe, with their seconds and the errors of failed ones."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor, nn

from dtb_builder.errors import DivergedError, SingularKernelError, UnseenReLUError
from dtb_builder.network.network import Network
from dtb_builder.scores.ability import distinguishing_ability, mean_hamming_distance, wot
from dtb_builder.scores.activations import AgreementCounter, visit_activations
from dtb_builder.scores.az_nas import az_nas
from dtb_builder.scores.gradients import fisher, gradient_norm, grasp, plain, snip, zico
from dtb_builder.scores.graph import Graph
from dtb_builder.scores.jacobian import epe_nas, jacob_cov
from dtb_builder.scores.meco import meco
from dtb_builder.scores.names import KERNEL_SCORES, SCORES
from dtb_builder.scores.rbflex import rbflex
from dtb_builder.scores.sahd import SparsityAwareCounter
from dtb_builder.scores.size import l2_norm, multiply_accumulates, num_parameters
from dtb_builder.scores.swap import PatternCounter, swap_in_space
from dtb_builder.scores.synflow import synflow
from dtb_builder.scores.te_nas import crops, linear_regions, ntk_condition
from dtb_builder.scores.wiring import cell_depth, input_edges
from dtb_builder.scores.zen import zen

__all__ = ["Probe", "Scored", "score_network"]

_DRAWN_IMAGES = 16
_SEED = 0
_FEW_IMAGES = 16
_CROPS = (3, 1000)


@dataclass(frozen=True, eq=False)
class Probe:
    """The images on which networks are scored.

    Attributes:
        images: normalised, float32, shape (images, channels, height, width).
        labels: their classes, int64, shape (images,).
        features: the name of the module whose output is the last maps before pooling, for `zen`.

    Raises:
        ValueError: the numbers of labels and images differ.
    """

    images: Tensor
    labels: Tensor
    features: str

    def __post_init__(self) -> None:
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels must have shape ({len(self.images)},), got {tuple(self.labels.shape)}"
            )

    def first(self, num_images: int) -> "Probe":
        """The probe of the first images."""
        return Probe(self.images[:num_images], self.labels[:num_images], self.features)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def halves(self) -> list[tuple[Tensor, Tensor]]:
        """The two batches that `zico` compares."""
        half = len(self.images) // 2
        return [
            (self.images[:half], self.labels[:half]),
            (self.images[half:], self.labels[half:]),
        ]


@dataclass
class Scored:
    """The scores of one network, by name.

    Attributes:
        values: the scores, all finite.
        seconds: the time that each score alone would take, including work that scores share.
        errors: the errors of scores that could not be computed.
        singular: whether the agreement kernel is singular; None if it was not computed.
        smallest_eigenvalue: of the kernel, divided by the mean eigenvalue; None likewise.
    """

    values: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    singular: bool | None = None
    smallest_eigenvalue: float | None = None


def score_network(
    network: nn.Module,
    probe: Probe,
    names: Collection[str],
    *,
    activation_units: int | None = None,
) -> Scored:
    """Compute scores, which are described in their modules; copies of the network run.

    A score that is not defined, as for a singular kernel or for gradients that are not finite,
    raises nothing: the result has its error.

    Args:
        network: maps images to logits, on the probe's device.
        probe: the images.
        names: which scores, of `names.SCORES`.
        activation_units: N_A by the closed form; it must equal the number that hooks count.

    Raises:
        ValueError: a name is unknown.
    """
    if unknown := sorted(set(names) - SCORES.keys()):
        raise ValueError(f"unknown scores {', '.join(unknown)}")
    scored = Scored()
    _shared_scores(scored, network, probe, set(names), activation_units)
    for group, compute in _OTHERS.items():
        wanted = [name for name in group if name in names]
        if wanted:
            begin = time.perf_counter()
            try:
                values = dict(zip(group, compute(network, probe), strict=True))
            except _REASONS as error:
                reason = f"{type(error).__name__}: {error}"
                scored.errors.update(dict.fromkeys(wanted, reason))
                continue
            for name in wanted:
                _keep(scored, name, float(values[name]), time.perf_counter() - begin)
    return scored


def _shared_scores(
    scored: Scored,
    network: nn.Module,
    probe: Probe,
    names: set[str],
    activation_units: int | None,
) -> None:
    """Compute the scores of activation codes and of gradients, from one shared forward pass."""
    of_codes, of_graph = names & _OF_CODES, [name for name in _OF_GRAPH if name in names]
    if not of_codes and not of_graph:
        return
    agreement = AgreementCounter(len(probe.images), probe.images.device)
    patterns = PatternCounter()
    distances = SparsityAwareCounter(len(probe.images))
    counters: list[AgreementCounter | PatternCounter | SparsityAwareCounter] = []
    counters += [agreement] if names & KERNEL_SCORES else []
    counters += [patterns] if names & _SWAPS else []
    counters += [distances] if "sahd" in names else []
    seconds = dict.fromkeys(counters, 0.0)

    def visit(fires: Tensor) -> None:
        for counter in counters:
            begin = time.perf_counter()
            counter(fires)
            seconds[counter] += time.perf_counter() - begin

    begin = time.perf_counter()
    graph = None
    try:
        if of_graph:
            graph = Graph(
                network,
                probe.images,
                probe.labels,
                visit=visit if of_codes else None,
                twice="grasp" in names,
            )
            if graph.watch is not None:
                graph.watch.check()
        else:
            visit_activations(network, probe.images, visit)
    except _REASONS as error:
        failed = of_codes if graph is not None else of_codes.union(of_graph)
        scored.errors |= dict.fromkeys(failed, f"{type(error).__name__}: {error}")
        of_codes = set[str]()
    shared = time.perf_counter() - begin - sum(seconds.values())
    if kernel_names := of_codes & KERNEL_SCORES:
        own = shared + seconds[agreement]
        _kernel_scores(scored, agreement, kernel_names, own, activation_units)
    of_counters = {
        "swap": (patterns, lambda: float(patterns.num_patterns)),
        "swap_regularised": (
            patterns,
            lambda: swap_in_space(patterns.num_patterns, _darts(network)),
        ),
        "sahd": (distances, distances.log_determinant),
    }
    for name in sorted(of_codes & of_counters.keys()):
        counter, compute = of_counters[name]
        begin = time.perf_counter()
        try:
            value = compute()
        except _REASONS as error:
            scored.errors[name] = f"{type(error).__name__}: {error}"
            continue
        _keep(scored, name, value, shared + seconds[counter] + time.perf_counter() - begin)
    if graph is not None:
        _graph_scores(scored, graph, of_graph, shared)


def _graph_scores(scored: Scored, graph: Graph, names: Sequence[str], shared: float) -> None:
    """Compute the scores of gradients; a shared backward pass counts in the seconds of each."""
    of_pass = dict.fromkeys(_PASSES, 0.0)
    for name in names:
        compute, needs = _OF_GRAPH[name]
        try:
            for each in needs:
                begin = time.perf_counter()
                _PASSES[each](graph)
                of_pass[each] = max(of_pass[each], time.perf_counter() - begin)
            begin = time.perf_counter()
            value = compute(graph)
        except _REASONS as error:
            scored.errors[name] = f"{type(error).__name__}: {error}"
            continue
        own = time.perf_counter() - begin
        _keep(scored, name, value, shared + sum(of_pass[each] for each in needs) + own)


def _kernel_scores(
    scored: Scored,
    counter: AgreementCounter,
    names: set[str],
    shared: float,
    activation_units: int | None,
) -> None:
    """Compute the scores of the agreement kernel; ``shared`` seconds count in those of each."""
    begin = time.perf_counter()
    kernel = counter.agreement()
    if activation_units not in (None, kernel.activation_units):
        reason = (
            f"UnseenReLUError: wanted the {activation_units} activation units of the closed form, "
            f"got {kernel.activation_units} from hooks"
        )
        scored.errors |= dict.fromkeys(names, reason)
        return
    scored.singular = kernel.singular
    scored.smallest_eigenvalue = kernel.smallest_eigenvalue
    shared += time.perf_counter() - begin
    computations = {
        "wot": wot,
        "distinguishing_ability": distinguishing_ability,
        "activation_units": lambda kernel: kernel.activation_units,
        "mean_hamming_distance": mean_hamming_distance,
    }
    for name in sorted(names):
        begin = time.perf_counter()
        try:
            value = float(computations[name](kernel))
        except SingularKernelError as error:
            scored.errors[name] = f"{type(error).__name__}: {error}"
            continue
        _keep(scored, name, value, shared + time.perf_counter() - begin)


def _keep(scored: Scored, name: str, value: float, seconds: float) -> None:
    if math.isfinite(value):
        scored.values[name] = value
        scored.seconds[name] = seconds
    else:
        scored.errors[name] = f"DivergedError: the score is {value}"


_REASONS = (DivergedError, UnseenReLUError, SingularKernelError, ValueError, OverflowError)
"""Errors by which a score is not defined; others are bugs."""

_SWAPS = frozenset({"swap", "swap_regularised"})
_OF_CODES = KERNEL_SCORES | _SWAPS | {"sahd"}

_PASSES: Mapping[str, Callable[[Graph], object]] = MappingProxyType(
    {
        "loss": lambda graph: graph.weights,
        "images": lambda graph: graph.image_gradients,
    }
)
"""The backward passes of a graph; each runs once."""

_OF_GRAPH: Mapping[str, tuple[Callable[[Graph], float], tuple[str, ...]]] = MappingProxyType(
    {
        "jacob_cov": (jacob_cov, ("images",)),
        "epe_nas": (epe_nas, ("images",)),
        "gradient_norm": (gradient_norm, ("loss",)),
        "snip": (snip, ("loss",)),
        "plain": (plain, ("loss",)),
        "fisher": (fisher, ("loss",)),
        "grasp": (grasp, ("loss",)),  # the last, because its backward pass frees the graph
    }
)
"""Scores of a graph, with the backward passes that each needs."""


def _of_cells(network: nn.Module, _: Probe) -> tuple[float, float]:
    genotype = _darts(network).genotype
    return input_edges(genotype), cell_depth(genotype)


def _darts(network: nn.Module) -> Network:
    if not isinstance(network, Network):
        raise ValueError(f"wanted a network of the DARTS space, got {type(network).__name__}")
    return network


def _zen(network: nn.Module, probe: Probe) -> tuple[float]:
    shape = (_DRAWN_IMAGES, *probe.image_shape)
    return (zen(network, shape, _generator(probe), features=probe.features),)


def _meco(network: nn.Module, probe: Probe) -> tuple[float]:
    return (meco(network, probe.image_shape[0], _generator(probe)),)


def _regions(network: nn.Module, probe: Probe) -> tuple[float]:
    batches = crops(probe.images, *_CROPS, torch.Generator().manual_seed(_SEED))
    return (linear_regions(network, batches),)


def _az_nas(network: nn.Module, probe: Probe) -> tuple[float, float, float]:
    modules = ["stem", *(f"cells.{i}" for i in range(_darts(network).spec.layers))]
    shape = (_DRAWN_IMAGES, *probe.image_shape)
    return az_nas(network, shape, _generator(probe), modules=modules)


def _generator(probe: Probe) -> torch.Generator:
    return torch.Generator(probe.images.device).manual_seed(_SEED)


_OTHERS: Mapping[tuple[str, ...], Callable[[nn.Module, Probe], tuple[float, ...]]] = (
    MappingProxyType(
        {
            ("num_parameters",): lambda network, _: (num_parameters(network),),
            ("multiply_accumulates",): lambda network, probe: (
                multiply_accumulates(network, probe.image_shape),
            ),
            ("input_edges", "cell_depth"): _of_cells,
            ("l2_norm",): lambda network, _: (l2_norm(network),),
            ("synflow",): lambda network, probe: (synflow(network, probe.image_shape),),
            ("zico",): lambda network, probe: (zico(network, probe.halves),),
            ("zen",): _zen,
            ("rbflex",): lambda network, probe: (rbflex(network, probe.images[:_FEW_IMAGES]),),
            ("meco",): _meco,
            ("ntk_condition",): lambda network, probe: (
                ntk_condition(network, probe.images[:_FEW_IMAGES]),
            ),
            ("linear_regions",): _regions,
            ("az_expressivity", "az_progressivity", "az_trainability"): _az_nas,
        }
    )
)
"""Groups of scores that are computed together; each score has the seconds of its group."""
