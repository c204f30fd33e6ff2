"""Calls on a Ray cluster, on one machine or many."""

import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Hashable, Iterator
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import LocalRayletDiedError, NodeDiedError, RayError, RayTaskError

from dtb_builder.errors import ConfigError, DTBError
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.stages.work.engine import Call, CallEnd
from dtb_builder.training.compute import ComputeConfig

__all__ = ["RayEngine"]

_logger = logging.getLogger(__name__)

_LIMIT_SECONDS = 1.0
"""How long what the cluster has is remembered."""


class RayEngine:
    """Core tasks in a bounded loop: a plan of any length costs the driver the same memory.

    Raises:
        ConfigError: the cluster cannot be reached, or is a local one without room for a single
            run; to a started one machines may come.
    """

    def __init__(self, cluster: ClusterConfig, compute: ComputeConfig) -> None:
        self._cluster = cluster
        self._compute = compute
        self._running: dict[Any, Hashable] = {}
        self._remotes: dict[tuple[Any, bool], Any] = {}
        self._limit, self._limit_of = 0, -math.inf

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Workers of a local cluster inherit these; elsewhere Ray sets the first by the cores of a
        # task. A library that is loaded before set_up_torch would otherwise spin on every core.
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, str(self._compute.threads))
        local = self._cluster.address is None
        try:
            with _sigterm_kept():
                ray.init(
                    address="local" if local else self._cluster.address,
                    num_cpus=self._cluster.num_cpus if local else None,
                    include_dashboard=False if local else None,
                    logging_level=logging.WARNING,
                )
        except ConnectionError as error:
            raise ConfigError(f"cluster.address={self._cluster.address}: {error}") from error
        if self._capacity() < 1:
            found = {k: v for k, v in ray.cluster_resources().items() if k in ("CPU", "GPU")}
            lacking = f"a run needs {self._resources(on_device=True)}, Ray has {found}"
            if local:
                ray.shutdown()
                raise ConfigError(lacking)
            _logger.warning("%s: waiting for machines to join the cluster", lacking)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ray.shutdown()

    def has_room(self) -> bool:
        """Whether another call may be submitted now."""
        if time.monotonic() - self._limit_of > _LIMIT_SECONDS:  # machines come and go
            self._limit = self._cluster.max_in_flight or 2 * max(1, self._capacity())
            self._limit_of = time.monotonic()
        return len(self._running) < self._limit

    def is_idle(self) -> bool:
        """Whether every submitted call has ended."""
        return not self._running

    def submit(self, call: Call) -> None:
        """Have a call made."""
        remote = self._remote(call).options(name=call.name)
        self._running[remote.remote(*call.arguments)] = call.key

    def wait(self, *, seconds: float) -> list[CallEnd]:
        """The calls that have ended since the last time; waits for one, but not for ever."""
        references = list(self._running)
        ready, _ = ray.wait(references, num_returns=1, timeout=seconds)
        more, _ = ray.wait(references, num_returns=len(references), timeout=0)
        return [self._end(reference) for reference in dict.fromkeys([*ready, *more])]

    def _end(self, reference: Any) -> CallEnd:
        key = self._running.pop(reference)
        try:
            return CallEnd(key, ray.get(reference), None)
        except RayTaskError as error:
            # Of an error that explains itself, Ray's text around it would hide the explanation.
            cause = error.cause
            explained = isinstance(cause, DTBError)
            return CallEnd(key, None, cause if explained else error.as_instanceof_cause())
        except (NodeDiedError, LocalRayletDiedError) as error:
            return CallEnd(key, None, error, is_lost=True)
        except RayError as error:
            return CallEnd(key, None, error)

    def _remote(self, call: Call) -> Any:
        """The call's function as Ray knows it, declared once."""
        which = (call.function, call.on_device)
        if which not in self._remotes:
            resources = self._resources(on_device=call.on_device)
            # A GPU's memory is only given back when the process ends.
            max_calls = 1 if resources["num_gpus"] else 0
            declare = ray.remote(
                num_cpus=resources["num_cpus"],
                num_gpus=resources["num_gpus"],
                max_retries=0,  # work/tasks.py alone decides what is tried again
                max_calls=max_calls,
            )
            self._remotes[which] = declare(call.function)
        return self._remotes[which]

    def _resources(self, *, on_device: bool) -> dict[str, float]:
        if not on_device:
            return {"num_cpus": 1, "num_gpus": 0}
        gpus = self._cluster.gpus_per_run
        if gpus is None:
            gpus = 1 if self._compute.device == "cuda" else 0
        return {"num_cpus": self._compute.threads, "num_gpus": gpus}

    def _capacity(self) -> int:
        """How many runs the cluster has room for at once."""
        total = ray.cluster_resources()
        needed = self._resources(on_device=True)
        rooms = [total.get("CPU", 0) / needed["num_cpus"]]
        if needed["num_gpus"]:
            rooms.append(total.get("GPU", 0) / needed["num_gpus"])
        return int(min(rooms))


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keep Ray from taking SIGTERM over, as it does while it starts.

    Its handler in Python raises SystemExit wherever the process happens to be: within compiled code
    that is swallowed, or aborts the process. Its handler in C sets an alarm that aborts the process
    three seconds later, however busy with ending it is then (absl's failure_signal_handler.cc); so
    ours is put back in its place, and alarms are taken back until it is.
    """
    real, ours = signal.signal, signal.getsignal(signal.SIGTERM)
    started = threading.Event()

    def selective(number: int, handler: Any) -> Any:
        return ours if number == signal.SIGTERM else real(number, handler)

    def disarm() -> None:
        while not started.wait(0.5):
            signal.alarm(0)

    disarming = threading.Thread(target=disarm, daemon=True)
    disarming.start()
    signal.signal = selective
    try:
        yield
    finally:
        signal.signal = real
        signal.signal(signal.SIGTERM, ours)
        started.set()
        disarming.join()
        signal.alarm(0)
