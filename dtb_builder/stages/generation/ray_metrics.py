"""The progress of a generation as metrics for Ray's Prometheus endpoint and dashboard.

The driver reports them for all workers: it reads the run folder, as `status` does. The memory of
GPUs is Ray's own metric ``ray_node_gram_used``.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dtb_builder.stages.generation.driver import Event, Progress
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.status import Status, status
from dtb_builder.stages.settings.shard_range import ShardRange

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

__all__ = ["GAUGES", "metered"]

GAUGES = {
    "dtb_runs_finished": "runs with all their epochs",
    "dtb_runs_running": "runs that a process trains now",
    "dtb_runs_given_up": "runs that failed as often as allowed",
    "dtb_epochs": "finished epochs of all runs",
    "dtb_epochs_per_hour": "epochs an hour of the running runs together",
    "dtb_seconds_per_epoch": "seconds of the running runs' latest epochs, on average, by device",
}
"""Each metric's name and meaning; Ray puts ``ray_`` before the name."""

_SECONDS = 5.0
"""The least time between two reads of the run folder."""

_PAUSE = 20
"""The least time between two reads, as a multiple of the last read's time."""


def metered(
    events: Iterator[Event], folder: RunFolder, shards: ShardRange | None = None
) -> Iterator[Event]:
    """Pass events on and set the metrics; Ray must run when the first event comes.

    Args:
        events: the events of `generate`.
        folder: its run folder.
        shards: the shards on which it works; None for all.
    """
    gauges: dict[str, Gauge] = {}
    next_look = 0.0
    for event in events:
        if isinstance(event, Progress):
            if not gauges:
                gauges = _gauges(folder)
            if (begin := time.monotonic()) >= next_look:
                _set(gauges, status(folder, shards))
                end = time.monotonic()
                next_look = end + max(_SECONDS, _PAUSE * (end - begin))
        yield event
    if gauges:
        _set(gauges, status(folder, shards))


def _gauges(folder: RunFolder) -> "dict[str, Gauge]":
    # Here, once Ray runs: Ray takes RAY_AUTH_MODE, which open_engine sets, when it is imported.
    from ray.util.metrics import Gauge

    found: dict[str, Gauge] = {}
    for name, meaning in GAUGES.items():
        tags = ("run_folder", "device") if name == "dtb_seconds_per_epoch" else ("run_folder",)
        found[name] = Gauge(name, description=meaning, tag_keys=tags)
        found[name].set_default_tags({"run_folder": folder.path.name})
    return found


def _set(gauges: "dict[str, Gauge]", found: Status) -> None:
    gauges["dtb_runs_finished"].set(found.num_finished)
    gauges["dtb_runs_running"].set(found.num_running)
    gauges["dtb_runs_given_up"].set(found.num_given_up)
    gauges["dtb_epochs"].set(found.num_epochs)
    gauges["dtb_epochs_per_hour"].set(found.epochs_per_hour)
    for device in found.devices:
        if device.seconds_per_epoch is not None:
            tags = {"device": device.name}
            gauges["dtb_seconds_per_epoch"].set(device.seconds_per_epoch, tags=tags)
