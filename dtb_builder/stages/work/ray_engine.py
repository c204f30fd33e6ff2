"""Calls on a Ray cluster, on one machine or many."""

import contextlib
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import grpc
import ray
from ray import cloudpickle
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import (
    AuthenticationError,
    LocalRayletDiedError,
    NodeDiedError,
    RayError,
    RayTaskError,
)

from dtb_builder.errors import ConfigError, DTBError, NotStartedError
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.stages.work.engine import Call, CallEnd
from dtb_builder.stages.work.installation import checked_call
from dtb_builder.stages.work.ray_log import ray_starts_into, ray_works_into
from dtb_builder.training.compute import ComputeConfig

__all__ = ["RayEngine"]

_logger = logging.getLogger(__name__)

_LIMIT_SECONDS = 1.0
"""How long the cluster's capacity is cached."""

_JOIN_SECONDS = 120
"""How long to wait for a cluster's answer: its head may still be starting."""

_REFUSED_SECONDS = 10
"""The same where nobody listens at its address."""

_TOKENS = (
    "a head that was started with a token wants RAY_AUTH_MODE=token here, and its "
    "~/.ray/auth_token; one that was started without wants RAY_AUTH_MODE=disabled"
)


class RayEngine:
    """Makes calls as Ray tasks, a bounded number at once.

    Args:
        cluster: where the work is done.
        compute: what a run needs.
        log: a file for Ray's log, or None to leave it on standard error.

    Raises:
        ConfigError: the cluster cannot be reached, or a local cluster is too small for a run. A
            remote cluster may be too small at first, since machines may join.
        NotStartedError: Ray did not start in time, or SIGTERM came while it joined a cluster.
    """

    def __init__(
        self, cluster: ClusterConfig, compute: ComputeConfig, log: Path | None = None
    ) -> None:
        self._cluster = cluster
        self._compute = compute
        self._log = log
        self._quiet = contextlib.ExitStack()
        self._running: dict[Any, Hashable] = {}
        self._remotes: dict[tuple[Any, bool], Any] = {}
        self._limit, self._limit_of = 0, -math.inf

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # For the workers of a local cluster; elsewhere Ray sets the first to the cores of a task.
        # Otherwise a library that is loaded before set_up_torch would start a thread on every core.
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, str(self._compute.threads))
        local = self._cluster.address is None
        num_cpus = self._cluster.num_cpus if local else None
        if num_cpus is not None and num_cpus < self._compute.threads:
            raise ConfigError(self._too_small({"CPU": num_cpus}))
        address = "local" if local else _answering(str(self._cluster.address))
        try:
            with _sigterm_kept(), ray_starts_into(self._log):
                ray.init(
                    address=address,
                    num_cpus=num_cpus,
                    include_dashboard=False if local else None,
                    logging_level=logging.WARNING,
                )
        except (ConnectionError, AuthenticationError) as error:
            reason = f"cluster.address={self._cluster.address}: {error}"
            if isinstance(error, AuthenticationError) or self._is_refused():
                reason += f"\n{_TOKENS}"
            raise ConfigError(reason) from error
        except Exception as error:
            if type(error) not in (Exception, RuntimeError, TimeoutError):
                raise
            ray.shutdown()
            # Another version of Ray or Python than the cluster's is a mismatch.
            reason = ConfigError if "mismatch" in str(error) else NotStartedError
            seen = "" if self._log is None else f" (see {self._log})"
            raise reason(f"Ray did not start: {' '.join(str(error).split())}{seen}") from error
        self._quiet.enter_context(ray_works_into(self._log))
        if self._capacity() < 1:
            total = {k: v for k, v in ray.cluster_resources().items() if k in ("CPU", "GPU")}
            if local:
                ray.shutdown()
                raise ConfigError(self._too_small(total))
            _logger.warning("%s: waiting for machines to join the cluster", self._too_small(total))
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        self._quiet.close()

    def _is_refused(self) -> bool:
        """Whether Ray's last words are that its token is not the cluster's."""
        if self._log is None:
            return False
        return "Unauthenticated" in "".join(self._log.read_text().splitlines()[-3:])

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
        """Queue a call."""
        pickled = cloudpickle.dumps((call.function, call.arguments))  # pyright: ignore[reportPrivateImportUsage]
        self._running[self._remote(call).options(name=call.name).remote(pickled)] = call.key

    def wait(self, *, seconds: float) -> list[CallEnd]:
        """The calls that have ended since the last wait; waits for at least one, or a time-out."""
        references = list(self._running)
        ready, _ = ray.wait(references, num_returns=1, timeout=seconds)
        more, _ = ray.wait(references, num_returns=len(references), timeout=0)
        return [self._end(reference) for reference in dict.fromkeys([*ready, *more])]

    def _end(self, reference: Any) -> CallEnd:
        key = self._running.pop(reference)
        try:
            refusal, result = ray.get(reference)
            return CallEnd(key, result, None if refusal is None else ConfigError(refusal))
        except RayTaskError as error:
            # Ray's text around a DTBError would hide its message.
            cause = error.cause
            explained = isinstance(cause, DTBError)
            return CallEnd(key, None, cause if explained else error.as_instanceof_cause())
        except (NodeDiedError, LocalRayletDiedError) as error:
            return CallEnd(key, None, error, is_lost=True)
        except RayError as error:
            return CallEnd(key, None, error)

    def _remote(self, call: Call) -> Any:
        """The Ray function for a call, which is declared once."""
        which = (call.function, call.on_device)
        if which not in self._remotes:
            resources = self._resources(on_device=call.on_device)
            # The memory of a GPU is free again only when the process ends.
            max_calls = 1 if resources["num_gpus"] else 0
            declare = ray.remote(
                num_cpus=resources["num_cpus"],
                num_gpus=resources["num_gpus"],
                max_retries=0,  # only work/tasks.py decides what is tried again
                max_calls=max_calls,
            )
            self._remotes[which] = declare(checked_call())
        return self._remotes[which]

    def _resources(self, *, on_device: bool) -> dict[str, float]:
        if not on_device:
            return {"num_cpus": 1, "num_gpus": 0}
        gpus = self._cluster.gpus_per_run
        if gpus is None:
            gpus = 1 if self._compute.device == "cuda" else 0
        return {"num_cpus": self._compute.threads, "num_gpus": gpus}

    def _too_small(self, total: Mapping[str, float]) -> str:
        return f"a run needs {self._resources(on_device=True)}, Ray has {total}"

    def _capacity(self) -> int:
        """How many runs the cluster can train at once."""
        total = ray.cluster_resources()
        needed = self._resources(on_device=True)
        limits = [total.get("CPU", 0) / needed["num_cpus"]]
        if needed["num_gpus"]:
            limits.append(total.get("GPU", 0) / needed["num_gpus"])
        return int(min(limits))


def _answering(address: str) -> str:
    """Wait until a cluster answers, and return its address as HOST:PORT.

    Ray itself would wait for minutes in compiled code, where Python handles no signal.
    """
    head = canonicalize_bootstrap_address(address)
    if head is None:
        raise ConfigError(f"cluster.address={address}: no Ray runs on this machine")
    message = f"dtb: joining the Ray cluster at {head}"
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        print(message, file=sys.stderr, flush=True)
        return head  # it would not answer a connection without TLS
    begin = time.monotonic()
    direct = [("grpc.enable_http_proxy", 0)]  # as in Ray's own connections
    with _sigterm_noticed() as stopped, grpc.insecure_channel(head, direct) as channel:
        print(message, file=sys.stderr, flush=True)
        ready = grpc.channel_ready_future(channel)
        while True:
            with contextlib.suppress(grpc.FutureTimeoutError):
                ready.result(timeout=0.2)
                return head
            if stopped.is_set():
                raise NotStartedError(f"SIGTERM came while joining the Ray cluster at {head}")
            waited = time.monotonic() - begin
            if waited > _REFUSED_SECONDS and (nobody := _nobody_at(head)):
                raise ConfigError(f"cluster.address={address}: {nobody}")
            if waited > _JOIN_SECONDS:
                raise ConfigError(
                    f"cluster.address={address}: no Ray answered at {head} within "
                    f"{_JOIN_SECONDS} seconds"
                )


def _nobody_at(address: str) -> str | None:
    """Why nobody can answer at an address; None where somebody may."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except ConnectionRefusedError:
        return f"nobody listens at {address}"
    except socket.gaierror as error:
        return f"there is no machine {host}: {error.strerror}"
    except OSError:
        pass
    return None


@contextlib.contextmanager
def _sigterm_noticed() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, in addition to what its handler does."""
    ours, came = signal.getsignal(signal.SIGTERM), threading.Event()

    def notice(number: int, frame: Any) -> None:
        came.set()
        if callable(ours):
            ours(number, frame)

    signal.signal(signal.SIGTERM, notice)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, ours)


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Within, Ray may start but not replace our handler of SIGTERM.

    Ray's Python handler raises SystemExit anywhere, even in compiled code, which ignores it or
    aborts the process. Ray's C handler sets an alarm that aborts the process three seconds later,
    before it has ended cleanly (absl's failure_signal_handler.cc). So signal.signal ignores Ray's
    Python handler, alarms are cancelled while Ray starts, and at the end our handler is restored.
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
