"""Evaluating a stored state again, as its training did."""

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.dataset.source import Location
from dtb_builder.dataset.trained_images import images_of

if TYPE_CHECKING:
    from dtb_builder.dataset.run import Run
    from dtb_builder.training.evaluation import LossAndAccuracy
    from dtb_builder.training.resident import ResidentImages

__all__ = ["PARTS", "reevaluate_state"]

PARTS = ("train", "valid", "test")


def reevaluate_state(
    run: "Run",
    *,
    epoch: int | None,
    step: int | None,
    split: Literal["train", "valid", "test"],
    root: Path | None,
) -> "LossAndAccuracy":
    """Evaluate a stored state on a part of the images; see `Run.evaluate`."""
    from dtb_builder.training.compute import ComputeConfig
    from dtb_builder.training.evaluation import evaluate
    from dtb_builder.training.machine import set_up_machine_or_cpu
    from dtb_builder.training.setup import torch_as_it_was

    if split not in PARTS:
        raise ValueError(f"split must be one of {', '.join(PARTS)}, got {split!r}")
    network = run.network(epoch=epoch, step=step)
    with damage_is_named(run.file):
        config = run.provenance["config"]
        compute, precision = ComputeConfig(**config["compute"]), config["recipe"]["precision"]
    with torch_as_it_was():
        compute = set_up_machine_or_cpu(compute)
        data = _resident(json.dumps(run.provenance), root, run.file, compute.device)
        network = network.to(data.device)
        return evaluate(network, getattr(data, split), data, precision=precision)


@lru_cache(maxsize=1)
def _resident(provenance: str, root: Path | None, user: Location, device: str) -> "ResidentImages":
    """The images on the device; cached for the next state."""
    from dtb_builder.training.resident import make_resident

    images, split = images_of(json.loads(provenance), root, user=user)
    return make_resident(images, split, device)
