"""What can be scored: the states of a benchmark's runs, each as a network."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from dtb_builder.dataset import Benchmark, Run
from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.dataset.provenance import whole_provenance
from dtb_builder.images.settings import ImagesConfig
from dtb_builder.network.network import Network
from dtb_builder.network.rebuilt import check_claim
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.network.state import restore
from dtb_builder.scores import activation_units
from dtb_builder.stages.scoring.fingerprint import fingerprint
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.stages.settings.plain import flat

__all__ = ["BenchmarkSource", "Moment", "ScoredState", "Source", "Unit"]


@dataclass(frozen=True)
class Moment:
    """When in its training a network is scored: after an epoch, or after a step within one.

    Attributes:
        epoch: 0 is the initialisation; None where a step is given.
        step: counted from 1 over the whole training; None where an epoch is given.
    """

    epoch: int | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        if (self.epoch is None) == (self.step is None):
            raise ValueError(f"give either epoch or step, got {self.epoch} and {self.step}")


@dataclass(frozen=True)
class Unit:
    """What is scored by one task: all states of a run.

    Attributes:
        number: the run's.
        seed: of its initialisation.
        genotype: its text.
        fingerprint: tells this training of the run from another; its scores belong to it alone.
        moments: when it is scored.
    """

    number: int
    seed: int
    genotype: str
    fingerprint: str
    moments: tuple[Moment, ...]


@dataclass(frozen=True, eq=False)
class ScoredState:
    """A state to score.

    Attributes:
        moment: when it was captured.
        load: gives the network with the state's weights, one object for all states of a unit, and
            the training steps behind them.
        activation_units: N_A by the closed form; None where there is none.
    """

    moment: Moment
    load: Callable[[], tuple[nn.Module, int]]
    activation_units: int | None


class Source(Protocol):
    """Networks to score; it is sent to workers, so it is small and opens files for itself."""

    def about(self) -> dict[str, Any]:
        """What tells it from another source, as plain values."""
        ...

    def units(self) -> Iterator[Unit]:
        """Everything there is to score."""
        ...

    def states(self, number: int) -> Iterator[ScoredState]:
        """The states of a unit, in the order of its moments."""
        ...

    def images(self, root: str | None) -> ImagesConfig:
        """The images that its networks were trained on."""
        ...

    def adapted(self, images: Tensor) -> Tensor:
        """Normalised probe images as its networks read them."""
        ...

    def features(self, number: int) -> str:
        """The name of the module of a unit's networks whose output is the last maps."""
        ...

    @property
    def spec(self) -> NetworkSpec | None:
        """How all its genotypes are grown; None where they differ or are of another space."""
        ...


@dataclass(frozen=True)
class BenchmarkSource:
    """The kept states of a benchmark, or of a single shard.

    Attributes:
        path: the file.
    """

    path: Path

    def about(self) -> dict[str, Any]:
        """The benchmark's provenance, by hash."""
        with Benchmark(self.path) as benchmark:
            leaves = flat(benchmark.provenance).items()
            text = repr(sorted((f"/{key.replace('.', '/')}", repr(value)) for key, value in leaves))
        return {"kind": "dtb", "provenance": hashlib.sha256(text.encode()).hexdigest()}

    def units(self) -> Iterator[Unit]:
        """Every run with a state."""
        with Benchmark(self.path) as benchmark:
            for run in benchmark:
                if moments := _moments(run):
                    yield Unit(run.number, run.seed, str(run.genotype), fingerprint(run), moments)

    def states(self, number: int) -> Iterator[ScoredState]:
        """The states of a run."""
        with Benchmark(self.path) as benchmark:
            run = benchmark.run(number)
            with damage_is_named(self.path):
                check_claim(spec := _spec_of(benchmark), run.tensors)
            units = activation_units(run.genotype, spec)
            networks = _Networks(run)
            for moment in _moments(run):
                yield ScoredState(moment, partial(networks.at, moment), units)

    def images(self, root: str | None) -> ImagesConfig:
        """Its images and their split."""
        with Benchmark(self.path) as benchmark:
            settings = whole_provenance(benchmark)["config"]["images"]
        return parse(ImagesConfig, settings | {"root": root})

    def adapted(self, images: Tensor) -> Tensor:
        """As they are."""
        return images

    def features(self, number: int) -> str:  # noqa: ARG002 - the same for all
        """The last cell."""
        return f"cells.{self.spec.layers - 1}"

    @property
    def spec(self) -> NetworkSpec:
        """How its genotypes are grown."""
        with Benchmark(self.path) as benchmark:
            return _spec_of(benchmark)


def _spec_of(benchmark: Benchmark) -> NetworkSpec:
    with damage_is_named(str(benchmark.path)):
        return NetworkSpec(**whole_provenance(benchmark)["network"])


class _Networks:
    """A run's network, built once, with the weights of one state after the other."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._network: Network | None = None

    def at(self, moment: Moment) -> tuple[nn.Module, int]:
        """The network with the weights of a state, and the training steps behind them."""
        state = self._run.training_state(epoch=moment.epoch, step=moment.step)
        if self._network is None:
            self._network = self._run.network(epoch=moment.epoch, step=moment.step)
        else:
            restore(self._network, state)
        return self._network, state.num_batches_tracked


def _moments(run: Run) -> tuple[Moment, ...]:
    """When the kept states of a run were captured, the earlier the sooner."""
    return tuple(
        Moment(step=moment.step) if moment.epoch is None else Moment(epoch=moment.epoch)
        for moment in run.moments
    )
