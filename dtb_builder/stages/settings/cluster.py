"""Where runs are trained and how many share a device, as checked settings."""

from dataclasses import dataclass
from typing import Literal

from dtb_builder.stages.settings.shard_range import ShardRange

__all__ = ["ClusterConfig"]


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Where runs are trained and how many share a device; this never changes their bits.

    Attributes:
        engine: "ray", or "serial" for one run after the other in this process.
        address: the address of a Ray cluster; "auto" for the cluster of this machine, None for a
            new local cluster.
        num_cpus: the cores of a new local cluster; None for all.
        gpus_per_run: the GPUs of a run; a fraction shares a GPU. None is 1 on cuda and 0 on the
            CPU.
        max_in_flight: the number of tasks submitted to Ray at once; None for twice as many as can
            run.
        runs_per_task: the number of runs that a process trains one after another. Each process
            takes seconds to start, to load the images and to set up its GPU.
        shards: the range FIRST-LAST to work on, if several jobs share the work; None for all.
        max_attempts: how often a run is tried before it is given up.
        time_limit: the seconds that an attempt at a run may take; None for no limit.
        tensorboard: whether the curves of finished runs are also written for TensorBoard.
    """

    engine: Literal["ray", "serial"]
    address: str | None
    num_cpus: int | None
    gpus_per_run: float | None
    max_in_flight: int | None
    max_attempts: int
    time_limit: float | None
    runs_per_task: int = 1
    shards: str | int | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.num_cpus is not None and self.num_cpus < 1:
            raise ValueError(f"cluster.num_cpus must be at least 1, got {self.num_cpus}")
        gpus = self.gpus_per_run
        if gpus is not None and not 0 < gpus <= 1:
            raise ValueError(
                "cluster.gpus_per_run must be above 0 and at most 1, since a run trains on one "
                f"GPU, got {gpus}"
            )
        if self.max_in_flight is not None and self.max_in_flight < 1:
            raise ValueError(f"cluster.max_in_flight must be at least 1, got {self.max_in_flight}")
        if self.runs_per_task < 1:
            raise ValueError(f"cluster.runs_per_task must be at least 1, got {self.runs_per_task}")
        try:
            self.shard_range  # noqa: B018 - raises where there is none
        except ValueError as error:
            raise ValueError(f"cluster.shards: {error}") from error
        if self.max_attempts < 1:
            raise ValueError(f"cluster.max_attempts must be at least 1, got {self.max_attempts}")
        if self.time_limit is not None and self.time_limit <= 0:
            raise ValueError(f"cluster.time_limit must be above 0 seconds, got {self.time_limit}")
        if self.address is not None and self.address.startswith("ray://"):
            raise ValueError(
                "cluster.address must not be a Ray Client address (ray://), because the driver "
                "loses its tasks when the connection breaks; use address=auto on the cluster, or "
                "ray job submit"
            )

    @property
    def shard_range(self) -> ShardRange | None:
        """The shards to work on, or None for all."""
        return None if self.shards is None else ShardRange.parse(str(self.shards))
