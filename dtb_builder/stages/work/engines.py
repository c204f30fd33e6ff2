"""Make the engine of a configuration."""

import os
from pathlib import Path

from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.stages.work.engine import Engine
from dtb_builder.stages.work.serial_engine import SerialEngine
from dtb_builder.training.compute import ComputeConfig

__all__ = ["open_engine"]


def open_engine(cluster: ClusterConfig, compute: ComputeConfig, log: Path | None = None) -> Engine:
    """The engine of a configuration, not started yet; only the Ray engine imports Ray.

    Args:
        cluster: where the work is done.
        compute: what a run needs.
        log: a file for Ray's log, or None to leave it on standard error.
    """
    if cluster.engine == "serial":
        return SerialEngine()
    if cluster.address is None:
        # The default for a local cluster; without the variable, Ray prints a warning.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    else:
        # By default gRPC notices a machine that has vanished only after 320 seconds. Ray reads
        # these variables when it is imported.
        os.environ.setdefault("RAY_grpc_client_keepalive_time_ms", "15000")
        os.environ.setdefault("RAY_grpc_client_keepalive_timeout_ms", "15000")
    from dtb_builder.stages.work.ray_engine import RayEngine  # here: a serial launch needs no Ray

    return RayEngine(cluster, compute, log)
