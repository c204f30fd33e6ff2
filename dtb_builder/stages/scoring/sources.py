"""Sources of networks to score, such as the states of a benchmark's runs."""

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
    """The point of its training at which a network is scored: an epoch, or a step within one.

    Attributes:
        epoch: the epoch, 0 for the initialisation; None if a step is given.
        step: the step, counted from 1 over the whole training; None if an epoch is given.
    """

    epoch: int | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        if (self.epoch is None) == (self.step is None):
            raise ValueError(f"give either epoch or step, got {self.epoch} and {self.step}")


@dataclass(frozen=True)
class Unit:
    """The states of a run, which one task scores.

    Attributes:
        number: the run's number.
        seed: the seed of its initialisation.
        genotype: the genotype's text.
        fingerprint: identifies this training of the run.
        moments: the points of its training at which it is scored.
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
        moment: the point of the training.
        load: returns the network with the state's weights and the number of training steps; all
            states of a unit share one network object.
        activation_units: N_A by the closed form; None if there is no such form.
    """

    moment: Moment
    load: Callable[[], tuple[nn.Module, int]]
    activation_units: int | None


class Source(Protocol):
    """Networks to score; small, since it is sent to workers, which open its files."""

    def about(self) -> dict[str, Any]:
        """Values that identify the source."""
        ...

    def units(self) -> Iterator[Unit]:
        """All units to score."""
        ...

    def states(self, number: int) -> Iterator[ScoredState]:
        """The states of a unit, in the order of its moments."""
        ...

    def images(self, root: str | None) -> ImagesConfig:
        """The images on which its networks were trained."""
        ...

    def adapted(self, images: Tensor) -> Tensor:
        """Normalised probe images as input of its networks."""
        ...

    def features(self, number: int) -> str:
        """The name of the module, in a unit's networks, whose output is the last maps."""
        ...

    @property
    def spec(self) -> NetworkSpec | None:
        """The spec of all its networks; None if specs differ or the space is not DARTS."""
        ...


@dataclass(frozen=True)
class BenchmarkSource:
    """The stored states of a benchmark or of a shard.

    Attributes:
        path: the file.
    """

    path: Path

    def about(self) -> dict[str, Any]:
        """The hash of the benchmark's provenance."""
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
        """The benchmark's images and their split."""
        with Benchmark(self.path) as benchmark:
            settings = whole_provenance(benchmark)["config"]["images"]
        return parse(ImagesConfig, settings | {"root": root})

    def adapted(self, images: Tensor) -> Tensor:
        """The images unchanged."""
        return images

    def features(self, number: int) -> str:  # noqa: ARG002 - the same for all
        """The last cell."""
        return f"cells.{self.spec.layers - 1}"

    @property
    def spec(self) -> NetworkSpec:
        """The benchmark's network spec."""
        with Benchmark(self.path) as benchmark:
            return _spec_of(benchmark)


def _spec_of(benchmark: Benchmark) -> NetworkSpec:
    with damage_is_named(str(benchmark.path)):
        return NetworkSpec(**whole_provenance(benchmark)["network"])


class _Networks:
    """The network of a run, which is built once and gets the weights of each state."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._network: Network | None = None

    def at(self, moment: Moment) -> tuple[nn.Module, int]:
        """The network with the weights of a state, and its number of training steps."""
        state = self._run.training_state(epoch=moment.epoch, step=moment.step)
        if self._network is None:
            self._network = self._run.network(epoch=moment.epoch, step=moment.step)
        else:
            restore(self._network, state)
        return self._network, state.num_batches_tracked


def _moments(run: Run) -> tuple[Moment, ...]:
    """The moments of a run's stored states, in ascending order."""
    return tuple(
        Moment(step=moment.step) if moment.epoch is None else Moment(epoch=moment.epoch)
        for moment in run.moments
    )
