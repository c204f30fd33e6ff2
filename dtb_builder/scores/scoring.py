"""Every score of one network on one probe: with its seconds or, where it has none, the reason."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor, nn

from dtb_builder.errors import DivergedError, SingularKernelError, UnseenReLUError
from dtb_builder.scores.ability import distinguishing_ability, mean_hamming_distance, wot
from dtb_builder.scores.activations import AgreementCounter, visit_activations
from dtb_builder.scores.gradients import gradient_norm_and_snip, zico
from dtb_builder.scores.jacobian import jacob_cov
from dtb_builder.scores.names import KERNEL_SCORES, SCORES
from dtb_builder.scores.size import multiply_accumulates, num_parameters
from dtb_builder.scores.swap import PatternCounter
from dtb_builder.scores.synflow import synflow
from dtb_builder.scores.zen import zen

__all__ = ["Probe", "Scored", "score_network"]

_ZEN_IMAGES = 16
_ZEN_SEED = 0


@dataclass(frozen=True, eq=False)
class Probe:
    """What networks are scored on.

    Attributes:
        images: normalised, float32, shape (images, channels, height, width).
        labels: their classes, int64, shape (images,).
        features: the module whose output is the last maps, before they are pooled; for `zen`.
    """

    images: Tensor
    labels: Tensor
    features: str

    def __post_init__(self) -> None:
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels must have shape ({len(self.images)},), got {tuple(self.labels.shape)}"
            )

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


@dataclass(frozen=True)
class Scored:
    """The scores of one network.

    Attributes:
        values: finite numbers by the score's name.
        seconds: what each would take on its own; what several share counts in each of them.
        errors: why a score is not among the values, by its name.
        singular: whether the kernel is; None where no score of it was wanted or it failed.
        smallest_eigenvalue: of the kernel, whose eigenvalues have the mean 1; None likewise.
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
    """Compute scores, each as its own module describes it; the network is left as it is.

    A score that does not exist, as of a singular kernel or of gradients that are not finite, is no
    error of the caller's: its reason stands in the result.

    Args:
        network: maps images to logits, on the probe's device.
        probe: the images.
        names: which scores, of `names.SCORES`.
        activation_units: N_A by a closed form, to be compared with what hooks have counted.

    Raises:
        ValueError: a name is unknown.
    """
    if unknown := sorted(set(names) - SCORES.keys()):
        raise ValueError(f"unknown scores {', '.join(unknown)}")
    scored = _code_scores(network, probe, set(names) & _OF_CODES, activation_units)
    for group, compute in _OTHERS.items():
        wanted = [name for name in group if name in names]
        if wanted:
            begin = time.perf_counter()
            try:
                values = dict(zip(group, compute(network, probe), strict=True))
            except (DivergedError, UnseenReLUError, ValueError, OverflowError) as error:
                reason = f"{type(error).__name__}: {error}"
                scored.errors.update(dict.fromkeys(wanted, reason))
                continue
            for name in wanted:
                _keep(scored, name, float(values[name]), time.perf_counter() - begin)
    return scored


def _code_scores(
    network: nn.Module, probe: Probe, names: set[str], activation_units: int | None
) -> Scored:
    """Those that come from the activation codes, which are computed once for all of them."""
    if not names:
        return Scored()
    agreement = AgreementCounter(len(probe.images), probe.images.device)
    patterns = PatternCounter()
    of_kernel = names & KERNEL_SCORES
    wanted: list[AgreementCounter | PatternCounter] = [agreement] if of_kernel else []
    wanted += [patterns] if "swap" in names else []
    seconds = dict.fromkeys(wanted, 0.0)

    def visit(fires: Tensor) -> None:
        for counter in wanted:
            begin = time.perf_counter()
            counter(fires)
            seconds[counter] += time.perf_counter() - begin

    begin = time.perf_counter()
    try:
        visit_activations(network, probe.images, visit)
    except (DivergedError, UnseenReLUError) as error:
        return Scored(errors={name: f"{type(error).__name__}: {error}" for name in names})
    shared = time.perf_counter() - begin - sum(seconds.values())
    scored = Scored()
    if of_kernel:
        own = shared + seconds[agreement]
        scored = _kernel_scores(agreement, of_kernel, own, activation_units)
    if "swap" in names:
        _keep(scored, "swap", float(patterns.num_patterns), shared + seconds[patterns])
    return scored


def _kernel_scores(
    counter: AgreementCounter, names: set[str], shared: float, activation_units: int | None
) -> Scored:
    """Those of the agreement kernel, each with the seconds that it took on its own."""
    begin = time.perf_counter()
    kernel = counter.agreement()
    if activation_units not in (None, kernel.activation_units):
        reason = (
            f"UnseenReLUError: wanted the {activation_units} activation units of the closed form, "
            f"got {kernel.activation_units} from hooks"
        )
        return Scored(errors=dict.fromkeys(names, reason))
    scored = Scored(singular=kernel.singular, smallest_eigenvalue=kernel.smallest_eigenvalue)
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
    return scored


def _keep(scored: Scored, name: str, value: float, seconds: float) -> None:
    if math.isfinite(value):
        scored.values[name] = value
        scored.seconds[name] = seconds
    else:
        scored.errors[name] = f"DivergedError: the score is {value}"


_OF_CODES = KERNEL_SCORES | {"swap"}


def _zen(network: nn.Module, probe: Probe) -> tuple[float]:
    generator = torch.Generator(probe.images.device).manual_seed(_ZEN_SEED)
    shape = (_ZEN_IMAGES, *probe.image_shape)
    return (zen(network, shape, generator, features=probe.features),)


_OTHERS: Mapping[tuple[str, ...], Callable[[nn.Module, Probe], tuple[float, ...]]] = (
    MappingProxyType(
        {
            ("num_parameters",): lambda network, _: (num_parameters(network),),
            ("multiply_accumulates",): lambda network, probe: (
                multiply_accumulates(network, probe.image_shape),
            ),
            ("gradient_norm", "snip"): lambda network, probe: gradient_norm_and_snip(
                network, probe.images, probe.labels
            ),
            ("synflow",): lambda network, probe: (synflow(network, probe.image_shape),),
            ("jacob_cov",): lambda network, probe: (jacob_cov(network, probe.images),),
            ("zico",): lambda network, probe: (zico(network, probe.halves),),
            ("zen",): _zen,
        }
    )
)
"""Groups of scores that are computed together, with how; of the seconds each has the group's."""
