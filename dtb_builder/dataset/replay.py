"""Computing a state that was not kept, by training from the nearest earlier checkpoint."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.dataset.trained_images import images_of
from dtb_builder.dataset.weights import write_weights
from dtb_builder.errors import DamagedFileError, StateNotKeptError
from dtb_builder.record import TensorTable, TrainingState
from dtb_builder.shown import shown

if TYPE_CHECKING:
    from dtb_builder.dataset.run import Run
    from dtb_builder.images import Images
    from dtb_builder.network.spec import NetworkSpec
    from dtb_builder.training.start import Start

__all__ = ["Replayed", "claimed_spec", "replay", "start_of"]


@dataclass(frozen=True, eq=False)
class Replayed:
    """A state that was trained again, and whether it equals the original.

    Attributes:
        number: the run's number.
        epoch: the epoch after which the state was captured.
        start: the epoch from which the training was resumed; 0 is the initialisation.
        state: all tensors of the network, as trained.
        tensors: where each tensor lies in the state.
        crc32c: checksum of the state.
        trained_crc32c: checksum of the original state, from the run's file.
        trained_on: device and software of the original training.
        replayed_on: device and software of the replay.
        seconds: duration, loading the images and building the network included.

    >>> import warnings
    >>> with warnings.catch_warnings(action="ignore"):  # another processor has other last bits
    ...     replayed = run.replay(epoch=2)
    >>> replayed.start, replayed.named()["classifier.weight"].shape
    (1, (10, 48))
    """

    number: int
    epoch: int
    start: int
    state: TrainingState
    tensors: TensorTable
    crc32c: int
    trained_crc32c: int
    trained_on: Mapping[str, Any]
    replayed_on: Mapping[str, Any]
    seconds: float

    @property
    def is_same(self) -> bool:
        """Whether the state is bitwise equal to the original."""
        return self.crc32c == self.trained_crc32c

    @property
    def verdict(self) -> str:
        """The same in words; if the states differ, with both environments."""
        about = f"run {self.number}, epoch {self.epoch}, trained from epoch {self.start}"
        if self.is_same:
            return f"{about}: the same bits as in the training, CRC-32C {self.crc32c:08x}"
        return (
            f"{about}: the state DIFFERS from the training's, CRC-32C {self.crc32c:08x}, not "
            f"{self.trained_crc32c:08x}\n"
            f"trained on {_listed(self.trained_on)}\n"
            f"replayed on {_listed(self.replayed_on)}"
        )

    def named(self) -> dict[str, NDArray[np.float32]]:
        """The state as named arrays."""
        return self.tensors.unpack(self.state.values)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a file for other tools, as `Run.export`."""
        about = {
            "run": str(self.number),
            "step": str(self.state.num_batches_tracked),
            "replayed": "the same bits" if self.is_same else "differs",
        }
        write_weights(Path(path), self.named(), about)


def replay(run: "Run", *, epoch: int, root: Path | None = None) -> Replayed:
    """Train a run again up to an epoch, from its nearest earlier checkpoint; see `Run.replay`.

    If there is no checkpoint, it trains from the initialisation. Torch's settings are those of the
    original training, and are restored at the end.
    """
    from dtb_builder.network.initial import initial_network
    from dtb_builder.network.state import capture, tensor_table
    from dtb_builder.training.compute import ComputeConfig
    from dtb_builder.training.environment import environment
    from dtb_builder.training.kernels import kernels_name, library_of
    from dtb_builder.training.loop import train
    from dtb_builder.training.machine import set_up_machine
    from dtb_builder.training.recipe import Recipe
    from dtb_builder.training.resident import make_resident, without_evaluation
    from dtb_builder.training.setup import torch_as_it_was

    begin = time.perf_counter()
    trained_crc32c = run.state_crc32c(epoch=epoch)
    trained_on = run.environment(epoch=epoch)
    epoch = run.num_epochs if epoch == -1 else epoch
    start = _nearest_start(run, epoch)
    provenance = run.provenance
    with damage_is_named(run.file):
        config = provenance["config"]
        recipe = Recipe(**config["recipe"] | {"evaluate_epochs": ()})
        compute = ComputeConfig(**config["compute"])
    images, split = images_of(provenance, root, user=run.file)
    spec = claimed_spec(run, images)
    with torch_as_it_was():
        set_up_machine(compute)
        network = initial_network(run.genotype, spec, run.seed)
        network.use_kernels(library_of(compute, recipe.activations))
        data = without_evaluation(make_resident(images, split, compute.device))
        with damage_is_named(run.file):
            epochs = train(network, data, recipe, seed=run.order_seed, resume=start)
        # A training from the initialisation (start is None) yields epoch 0 too.
        finished = next(each for each in epochs if each.epoch == epoch)
        state, tensors = capture(finished.network), tensor_table(finished.network)
        replayed_on = environment(compute.device, kernels=kernels_name(compute))
    return Replayed(
        number=run.number,
        epoch=epoch,
        start=0 if start is None else start.epoch,
        state=state,
        tensors=tensors,
        crc32c=_checksum(state.values),
        trained_crc32c=trained_crc32c,
        trained_on=trained_on,
        replayed_on=replayed_on,
        seconds=time.perf_counter() - begin,
    )


def claimed_spec(run: "Run", images: "Images") -> "NetworkSpec":
    """The spec of a run's network as its file claims it, checked because files may be wrong.

    Raises:
        DamagedFileError: the network is larger than the run's states, or is for other images.
    """
    from dtb_builder.network.rebuilt import check_claim
    from dtb_builder.network.spec import NetworkSpec

    with damage_is_named(run.file):
        spec = NetworkSpec(**run.provenance["network"])
        check_claim(spec, run.tensors)
        _, *shape = images.train_images.shape
        if [spec.input_channels, spec.image_size, spec.num_classes] != [
            *shape[:2],
            images.num_classes,
        ]:
            raise DamagedFileError(f"the network does not take the images of {images.name}: {spec}")
    return spec


def start_of(run: "Run", epoch: int) -> "Start":
    """The checkpoint from which a training resumes after an epoch; see `Run.checkpoint_epochs`.

    Raises:
        StateNotKeptError: there is no checkpoint after this epoch.
        DamagedFileError: the state is not the one that was trained.
    """
    from dtb_builder.training.start import Start

    known = run.checkpoint_epochs
    if epoch not in known:
        raise StateNotKeptError(
            f"run {run.number} cannot continue from epoch {epoch}: epochs with a whole "
            f"float32 state and its momentum are {', '.join(map(str, known)) or 'none'}"
        )
    state = run.training_state(epoch=epoch)
    if _checksum(state.values) != run.state_crc32c(epoch=epoch):
        raise DamagedFileError(
            f"{run.file}: the state of epoch {epoch} of run {run.number} is not the one trained"
        )
    momentum = None
    if epoch in run.momentum_epochs:
        momentum = np.concatenate([part.ravel() for part in run.momentum(epoch=epoch).values()])
    return Start(epoch, state, momentum)


def _nearest_start(run: "Run", epoch: int) -> "Start | None":
    """The nearest checkpoint before an epoch; None is the initialisation."""
    began, origin = run.branch_epoch, run.origin
    if began is not None and epoch <= began:
        raise StateNotKeptError(
            f"run {run.number} branches from epoch {began}: replay run {origin.get('run')} of the "
            f"benchmark whose provenance has SHA-256 {origin.get('provenance_sha256')}"
        )
    earlier = [known for known in run.checkpoint_epochs if known < epoch]
    return start_of(run, earlier[-1]) if earlier else None


def _checksum(values: NDArray[np.float32]) -> int:
    return crc32c(values.astype("<f4", copy=False).data)


def _listed(environment: Mapping[str, Any]) -> str:
    return ", ".join(f"{shown(key)}={shown(value)}" for key, value in sorted(environment.items()))
