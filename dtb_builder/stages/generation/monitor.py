"""Print the status of a generation, once or repeatedly."""

import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

from dtb_builder.shown import shown
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.status import Status, status
from dtb_builder.stages.settings.shard_range import ShardRange
from dtb_builder.stages.work.byte_text import byte_text

__all__ = ["Forecast", "failed_lines", "status_line", "status_lines", "watched"]

_LOOK_SECONDS = 5.0
"""Between two looks at the run folder, at least."""

_PAUSE = 20
"""How many times as long as the last look took, at least: large folders take long."""

_MERGED = {
    "no": "no",
    "yes": "yes",
    "stale": "not with all that is finished by now: run dtb merge again",
    "damaged": "but damaged: run dtb merge again",
}


def status_lines(found: Status) -> Iterator[str]:
    """The lines of a full status."""
    yield (
        f"runs    {found.num_finished} of {found.num_runs} finished, {found.num_running} running, "
        f"{found.num_started} begun, {found.num_waiting} waiting, {found.num_given_up} given up"
    )
    share = 100 * found.num_epochs / max(1, found.num_planned_epochs)
    yield f"epochs  {found.num_epochs} of {found.num_planned_epochs} ({share:.1f} %)"
    if found.num_running:
        yield f"pace    {found.epochs_per_hour:,.0f} epochs an hour, {_left(found)} left"
    for device in found.devices:
        seconds = device.seconds_per_epoch
        pace = "in their first epoch" if seconds is None else f"{seconds:.3g} seconds an epoch"
        yield f"device  {shown(device.name)}: {device.num_running} runs, {pace}"
    yield f"shards  {found.num_closed_shards} of {found.num_shards} closed"
    yield f"disk    {byte_text(found.num_bytes)}"
    is_next = found.merged == "no" and found.is_complete
    yield f"merged  {_MERGED[found.merged]}" + f": dtb merge {found.path} is next" * is_next
    for holder in found.holders:
        yield f"worked on by {shown(holder)}"
    if not found.holders:
        yield "nobody works on it"
    yield from found.damaged
    yield from failed_lines(found)


def status_line(found: Status) -> str:
    """A status in one line, for a log."""
    share = 100 * found.num_epochs / max(1, found.num_planned_epochs)
    return (
        f"{found.num_finished}/{found.num_runs} runs, {found.num_running} running, "
        f"{found.num_waiting + found.num_started} waiting, {found.num_given_up} given up | "
        f"{found.num_epochs}/{found.num_planned_epochs} epochs ({share:.1f} %), "
        f"{found.epochs_per_hour:,.0f} an hour, {_left(found)} left | "
        f"{byte_text(found.num_bytes)}"
    )


def failed_lines(found: Status) -> Iterator[str]:
    """Lines on every failed run and every foreign file, and what to do about them."""
    for failed in found.failed:
        fate = ", given up" if failed.given_up else ""
        yield f"run {failed.number} failed {failed.attempts} times{fate}: {shown(failed.reason)}"
        yield f"  {failed.log}"
    for foreign in found.foreign:
        yield f"{foreign.file} is not a shard of this plan: {foreign.reason}"
    if found.foreign:
        yield f"dtb repair {found.path} sets aside what is not, and saves what is damaged"
    if any(failed.given_up and not failed.is_final for failed in found.failed):
        yield f"dtb generate {found.path} retry=failed tries again what was given up"


def watched(folder: RunFolder, *, seconds: float) -> Iterator[Status]:
    """Print and yield the status every few seconds, until the generation has ended.

    On a terminal, the full status is updated in place; in a log, each status is a line.

    Raises:
        ConfigError: the folder is not planned.
    """
    while True:
        found = status(folder)
        if sys.stdout.isatty():
            print("\033[H\033[2J" + "\n".join(status_lines(found)), flush=True)
        else:
            print(f"{datetime.now():%H:%M:%S}  {status_line(found)}", flush=True)
        yield found
        if found.is_over:
            return
        time.sleep(seconds)


class Forecast:
    """When a generation will have ended: by the running runs, or by what it has done so far."""

    def __init__(self, folder: RunFolder, shards: ShardRange | None) -> None:
        self._folder = folder
        self._shards = shards
        self._begin = self._next = time.monotonic()
        self._first: int | None = None
        self._text = ""

    def text(self, num_epochs: int) -> str:
        """The forecast, with so many epochs done; looked at again every few seconds."""
        now = time.monotonic()
        if self._first is None:
            self._first = num_epochs
        if now >= self._next:
            found = status(self._folder, self._shards)
            left, num_done = found.seconds_left, num_epochs - self._first
            if left is None and num_done > 0:  # as when runs are trained one by one, here
                left = (now - self._begin) / num_done * (found.num_planned_epochs - num_epochs)
            self._text = "" if left is None else f"about {_duration(left)} left"
            end = time.monotonic()
            self._next = end + max(_LOOK_SECONDS, _PAUSE * (end - now))
        return self._text


def _left(found: Status) -> str:
    return "an unknown time" if found.seconds_left is None else _duration(found.seconds_left)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
