"""What the one loop tries again, gives up, waits for and is stopped by."""

import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest
from engines import DyingEngine

from dtb_builder.errors import (
    ConfigError,
    DivergedError,
    ImagesError,
    LockedError,
    MissingVolumeError,
    StorageError,
)
from dtb_builder.stages.work.serial_engine import SerialEngine
from dtb_builder.stages.work.tasks import Ended, Event, Failed, Postponed, Started, Task, run_tasks

tried: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_tried() -> None:
    tried.clear()


def succeed(key: Any) -> Any:
    tried.append(key)
    return f"result of {key}"


def fail(key: Any, error: Exception, times: int) -> Any:
    """Raise an error so many times, then succeed."""
    if tried.count(key) < times:
        tried.append(key)
        raise error
    return succeed(key)


def good(key: Any) -> Task:
    return Task(key, succeed, (key,), on_device=True)


def bad(key: Any, error: Exception, times: int = 99, **more: Any) -> Task:
    return Task(key, fail, (key, error, times), on_device=True, **more)


def events(
    *batches: Sequence[Task], engine: SerialEngine | None = None, attempts: int = 2, **more: Any
) -> list[Event]:
    return list(run_tasks(engine or SerialEngine(), iter(batches), max_attempts=attempts, **more))


def of(kind: type, found: list[Event]) -> list[Any]:
    return [event for event in found if isinstance(event, kind)]


def test_every_task_ends_with_its_result_in_order() -> None:
    found = events([good(0), good(1)], [good(2)])
    assert [event.result for event in of(Ended, found)] == [f"result of {i}" for i in range(3)]
    assert [event.task.key for event in of(Started, found)] == [0, 1, 2]


def test_a_task_is_tried_as_often_as_allowed_and_then_given_up() -> None:
    found = of(Failed, events([bad(0, ValueError("no luck"))], attempts=3))
    assert [event.given_up for event in found] == [False, False, True]
    assert found[-1].reason == "ValueError: no luck"
    assert "raise error" in found[-1].traceback


def test_a_task_that_fails_stops_no_other_of_its_process() -> None:
    found = events([bad(0, ValueError()), good(1)], attempts=1)
    assert [event.task.key for event in of(Ended, found)] == [1]


def test_attempts_of_an_earlier_process_count() -> None:
    found = of(Failed, events([bad(0, ValueError(), num_failed=2)], attempts=3))
    assert [event.given_up for event in found] == [True]


def test_a_training_that_diverged_is_given_up_at_once() -> None:
    found = of(Failed, events([bad(0, DivergedError("nan"))], attempts=5))
    assert [event.given_up for event in found] == [True]


@pytest.mark.parametrize("kind", [StorageError, ImagesError, ConfigError, MissingVolumeError])
def test_what_concerns_every_task_stops_everything(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        events([good(0)], [bad(1, kind("of the machine"))], [good(2)])
    assert tried == [0, 1]


def test_a_locked_task_waits_for_its_turn_and_counts_no_attempt() -> None:
    found = events([bad(0, LockedError("held"), times=5)], [good(1)], attempts=1)
    assert len(of(Postponed, found)) == 5
    assert of(Failed, found) == []
    assert [event.task.key for event in of(Ended, found)] == [1, 0]


def test_a_lost_machine_counts_no_attempt_however_often() -> None:
    found = events([good(0)], engine=DyingEngine(7, is_lost=True), attempts=1)
    assert of(Failed, found) == []
    assert [event.result for event in of(Ended, found)] == ["result of 0"]


def test_a_process_that_dies_is_one_attempt_of_its_first_task_that_is_not_done() -> None:
    found = events(
        [good(0), good(1), good(2)],
        engine=DyingEngine(1, is_lost=False),
        is_done=lambda task: task.key == 0,
    )
    assert [(event.task.key, event.given_up) for event in of(Failed, found)] == [(1, False)]
    assert [event.task.key for event in of(Ended, found)] == [0, 1, 2]
    assert sorted(tried) == [1, 2]


def test_a_process_that_always_dies_is_given_up_after_as_many_attempts_as_allowed() -> None:
    found = of(Failed, events([good(0)], engine=DyingEngine(9, is_lost=False), attempts=2))
    assert [event.given_up for event in found] == [False, True]


def test_a_task_whose_work_is_done_has_not_failed() -> None:
    found = events([bad(0, ValueError("too late"))], attempts=1, is_done=lambda _: True)
    assert [event.result for event in of(Ended, found)] == [None]
    assert of(Failed, found) == []


def test_an_error_that_cannot_travel_between_processes_keeps_its_text() -> None:
    error = ValueError("of a thread")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    (found,) = of(Failed, events([bad(0, error)], attempts=1))
    assert found.reason == "RuntimeError: ValueError: of a thread"


def test_a_batch_may_wait_for_the_end_of_another() -> None:
    ended: list[Any] = []

    def batches() -> Iterator[Sequence[Task]]:
        yield [good(0)]
        while not ended:
            yield []
        yield [good(1)]

    loop = run_tasks(SerialEngine(), batches(), max_attempts=1)
    ended.extend(event.task.key for event in loop if isinstance(event, Ended))
    assert ended == [0, 1]


def in_turns(
    key: Any, num_turns: int, error: Exception | None = None
) -> Generator[None, None, str]:
    """Take so many turns, then raise the error if there is one."""
    try:
        for _ in range(num_turns):
            tried.append(key)
            yield
        if error is not None:
            raise error
    finally:
        tried.append(f"{key} closed")
    return f"result of {key}"


def long(key: Any, num_turns: int, error: Exception | None = None) -> Task:
    return Task(key, in_turns, (key, num_turns, error), on_device=True)


def test_tasks_take_turns_and_the_next_begins_when_one_has_ended() -> None:
    found = events([long(0, 3), long(1, 1), long(2, 2)], at_once=2)
    assert tried == [0, 1, 0, "1 closed", 0, 2, "0 closed", 2, "2 closed"]
    assert [event.result for event in of(Ended, found)] == [f"result of {i}" for i in range(3)]


def test_a_task_that_fails_in_its_turn_stops_no_other() -> None:
    found = events([long(0, 1, ValueError("no")), long(1, 2)], at_once=2, attempts=1)
    assert [event.task.key for event in of(Failed, found)] == [0]
    assert [event.task.key for event in of(Ended, found)] == [1]


def test_what_concerns_every_task_closes_those_that_wait_for_their_turn() -> None:
    with pytest.raises(StorageError):
        events([long(0, 1, StorageError("full")), long(1, 9), long(2, 9)], at_once=2)
    assert tried == [0, 1, "0 closed", "1 closed"]
