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
        if _has_token():  # ray start uses it, and a head without one minds no token
            os.environ.setdefault("RAY_AUTH_MODE", "token")
    from dtb_builder.stages.work.ray_engine import RayEngine  # here: a serial launch needs no Ray

    return RayEngine(cluster, compute, log)


def _has_token() -> bool:
    """Whether there is a token for a started cluster; without importing Ray, which reads modes."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(given) or (Path.home() / ".ray" / "auth_token").exists()
