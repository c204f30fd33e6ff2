"""Which engine a configuration asks for."""

import os

from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.stages.work.engine import Engine
from dtb_builder.stages.work.serial_engine import SerialEngine
from dtb_builder.training.compute import ComputeConfig

__all__ = ["open_engine"]


def open_engine(cluster: ClusterConfig, compute: ComputeConfig) -> Engine:
    """The engine that a configuration asks for, not started yet; only Ray's needs Ray."""
    if cluster.engine == "serial":
        return SerialEngine()
    if cluster.address is None:
        # Ray's default for a cluster of one's own, but said aloud it is not warned of.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from dtb_builder.stages.work.ray_engine import RayEngine  # here: a serial launch needs no Ray

    return RayEngine(cluster, compute)
