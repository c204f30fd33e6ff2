"""The loop that keeps an engine busy, with an engine that does what a test says."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.fake_runs import append, fake_run, write_journal

from dtb_builder.cli import main
from dtb_builder.dataset.journal import append_epoch, open_journal
from dtb_builder.errors import TimeLimitError, UnfinishedError
from dtb_builder.stages.generation import driver, run_folder
from dtb_builder.stages.generation.monitor import Forecast
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.generation.status import status
from dtb_builder.stages.settings.launch import LaunchConfig
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.stages.settings.shard_range import ShardRange
from dtb_builder.stages.work.engine import CallEnd
from dtb_builder.stages.work.serial_engine import SerialEngine

Dtb = Callable[..., int]
STATES = (  # what the fake runs keep, in epochs of five steps
    "images.num_train=40",
    "recipe.batch_size=8",
    "states.steps=[1,2]",
    "states.key_every=2",
    "states.momentum=[1,3]",
)


class MortalEngine(SerialEngine):
    """Its worker dies in some tasks, given by how often one was begun, after some of their runs."""

    def __init__(self, *, is_lost: bool, deaths: dict[int, int]) -> None:
        super().__init__()
        self._is_lost = is_lost
        self._deaths = deaths
        self.begun: list[tuple[int, ...]] = []

    def wait(self, *, seconds: float) -> list[CallEnd]:
        call = self._calls[0]
        if isinstance(call.key, str):
            return super().wait(seconds=seconds)
        tasks, at_once = call.arguments
        self.begun.append(tuple(task.key.number for task in tasks))
        num_survived = self._deaths.get(len(self.begun) - 1)
        if num_survived is None:
            return super().wait(seconds=seconds)
        self._calls.popleft()
        call.function(tasks[:num_survived], at_once)
        return [CallEnd(call.key, None, OSError("gone"), self._is_lost)]


def pretend(path: Path, run: PlannedRun, _limit: float | None) -> None:
    """Write the journal of a run that nobody trains."""
    journal = RunFolder(path).journal_file(run)
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.unlink(missing_ok=True)
    write_journal(journal, run.number)


def pretend_locked(path: Path, run: PlannedRun, limit: float | None) -> None:
    with RunFolder(path).run_locked(run):
        pretend(path, run, limit)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of seven runs, three to a shard; not to be written to."""
    folder = tmp_path_factory.mktemp("planned") / "run"
    settings = ("space.num_genotypes=7", "recipe.num_epochs=3", "shard_size=3", *STATES)
    assert main(["plan", str(folder), "network.channels=2", *settings]) == 0
    return folder


@pytest.fixture
def folder(planned: Path, tmp_path: Path) -> RunFolder:
    """The plan, for one test."""
    return RunFolder(shutil.copytree(planned, tmp_path / "run"))


def launch(**cluster: Any) -> LaunchConfig:
    settings = {
        "engine": "serial",
        "address": None,
        "num_cpus": None,
        "gpus_per_run": None,
        "max_in_flight": None,
        "runs_per_task": 1,
        "shards": None,
        "max_attempts": 2,
        "time_limit": None,
        "tensorboard": False,
    }
    launched = {"retry": None, "allow_missing": False, "volume_size": None}
    return parse(LaunchConfig, launched | {"cluster": settings | cluster})


def drive(
    folder: RunFolder, engine: MortalEngine, monkeypatch: pytest.MonkeyPatch, **cluster: Any
) -> list[driver.Event]:
    monkeypatch.setattr(driver, "open_engine", lambda *_: engine)
    return list(driver.generate(folder, launch(**cluster), train=pretend))


def failed(events: list[driver.Event]) -> list[tuple[int, bool]]:
    return [(e.run.number, e.given_up) for e in events if isinstance(e, driver.RunFailed)]


@pytest.mark.parametrize(
    ("size", "begun"),
    [
        (1, [(0,), (1,), (2,), (3,), (4,), (5,), (6,)]),
        (2, [(0, 1), (2,), (3, 4), (5,), (6,)]),
        (99, [(0, 1, 2), (3, 4, 5), (6,)]),
    ],
)
def test_a_task_is_of_runs_of_one_shard(
    size: int, begun: Any, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MortalEngine(is_lost=False, deaths={})
    events = drive(folder, engine, monkeypatch, runs_per_task=size)
    assert engine.begun == begun
    assert sum(isinstance(event, driver.RunFinished) for event in events) == 7
    assert events[-1] == driver.Progress(7 * 3)
    assert len(folder.shard_files()) == 3


def test_finished_runs_are_no_tasks_unless_a_journal_turns_out_to_be_damaged(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = list(folder.plan())
    for run in runs:
        pretend(folder.path, run, None)
    with folder.journal_file(runs[4]).open("r+b") as journal:
        journal.seek(1500)
        journal.write(b"damage")
    engine = MortalEngine(is_lost=False, deaths={})
    monkeypatch.setattr(driver, "open_engine", lambda *_: engine)
    with pytest.raises(UnfinishedError, match=r"runs \[4\] ended twice"):
        list(driver.generate(folder, launch(), train=lambda *_: None))
    engine = MortalEngine(is_lost=False, deaths={})
    events = drive(folder, engine, monkeypatch, runs_per_task=3)
    assert engine.begun == [(4,)]
    told = {event.run.number for event in events if isinstance(event, driver.RunFinished)}
    assert told == {3, 4, 5, 6}  # the first shard was closed before
    assert events[-1] == driver.Progress(7 * 3)
    assert len(folder.shard_files()) == 3


def test_a_dead_worker_is_the_fault_of_the_run_that_it_had_not_finished(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MortalEngine(is_lost=False, deaths={0: 1})
    events = drive(folder, engine, monkeypatch, runs_per_task=3)
    assert failed(events) == [(1, False)]
    assert sorted(engine.begun) == [(0, 1, 2), (1,), (2,), (3, 4, 5), (6,)]
    assert len(folder.shard_files()) == 3


def test_a_run_that_kills_its_workers_is_given_up(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MortalEngine(is_lost=False, deaths={0: 0, 1: 0})
    assert failed(drive(folder, engine, monkeypatch)) == [(0, False), (0, True)]
    assert status(folder).num_given_up == 1


def test_a_lost_machine_is_no_failure_however_often(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MortalEngine(is_lost=True, deaths=dict.fromkeys(range(5), 0))
    assert failed(drive(folder, engine, monkeypatch, runs_per_task=3)) == []
    assert status(folder).failed == ()
    assert len(folder.shard_files()) == 3


def test_a_shard_whose_closing_is_lost_is_closed_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[object] = []

    class Engine(MortalEngine):
        def wait(self, *, seconds: float) -> list[CallEnd]:
            key = self._calls[0].key
            if isinstance(key, str) and key not in lost:
                lost.append(self._calls.popleft().key)
                return [CallEnd(key, None, OSError("gone"), is_lost=True)]
            return super().wait(seconds=seconds)

    events = drive(folder, Engine(is_lost=False, deaths={}), monkeypatch)
    assert lost == ["shard 0", "shard 1", "shard 2"]
    assert sum(isinstance(event, driver.ShardClosed) for event in events) == 3
    assert len(folder.shard_files()) == 3


def test_failures_of_a_shard_that_is_closed_meanwhile_are_none(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = next(folder.plan())
    folder.add_failure(run, "no luck")
    read_text = Path.read_text

    def closed(path: Path, *arguments: Any) -> str:
        folder.forgive(run)
        return read_text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", closed)
    assert folder.failures(run).messages == ()


def test_a_run_that_another_process_holds_waits_for_it_and_has_not_failed(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "_RUN_LOCK_SECONDS", 0.1)
    run = next(folder.plan())
    events: list[driver.Event] = []
    with contextlib.ExitStack() as orphan:
        orphan.enter_context(folder.run_locked(run))
        for event in driver.generate(folder, launch(max_attempts=1), train=pretend_locked):
            events.append(event)
            if isinstance(event, driver.RunPostponed):
                orphan.close()
    assert [e.run for e in events if isinstance(e, driver.RunPostponed)] == [run]
    assert failed(events) == []
    assert len(folder.shard_files()) == 3


def test_a_run_that_finished_in_its_last_attempt_is_not_given_up(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(path: Path, run: PlannedRun, limit: float | None) -> None:
        pretend(path, run, limit)
        raise TimeLimitError("in the last millisecond")

    monkeypatch.setattr(driver, "open_engine", lambda *_: SerialEngine())
    events = list(driver.generate(folder, launch(max_attempts=1), train=too_late))
    assert failed(events) == []
    assert len(folder.shard_files()) == 3


def test_a_finished_run_that_was_given_up_goes_into_its_shard(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = list(folder.plan())
    for run in runs:
        pretend(folder.path, run, None)
    folder.add_failure(runs[0], "no luck")
    folder.give_up(runs[0])
    drive(folder, MortalEngine(is_lost=False, deaths={}), monkeypatch)
    assert len(folder.shard_files()) == 3


def test_holding_the_folder_leaves_the_files_of_those_who_need_not_hold_it(
    folder: RunFolder,
) -> None:
    others, own = (".report.html.0123.writing", ".mine.csv.0123.writing"), ".dtb.h5.0123.writing"
    for name in (*others, own):
        (folder.path / name).touch()
    with folder.locked():
        assert not (folder.path / own).exists()
        assert all((folder.path / name).exists() for name in others)


def test_a_lost_machine_whose_runs_had_finished_costs_nothing(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = MortalEngine(is_lost=True, deaths={0: 3})
    drive(folder, engine, monkeypatch, runs_per_task=3)
    assert engine.begun == [(0, 1, 2), (3, 4, 5), (6,)]


def test_status_counts_without_the_plan(folder: RunFolder, monkeypatch: Any) -> None:
    drive(folder, MortalEngine(is_lost=False, deaths={}), monkeypatch, shards="0-1")
    runs = list(folder.plan())
    monkeypatch.setattr(RunFolder, "plan", lambda _: pytest.fail("the plan was read"))
    found = status(folder)
    assert (found.num_runs, found.num_finished, found.num_waiting) == (7, 6, 1)
    assert (found.num_shards, found.num_closed_shards) == (3, 2)
    assert (found.num_epochs, found.num_planned_epochs) == (18, 21)
    part = status(folder, ShardRange.parse("1-9"))
    assert (part.num_runs, part.num_finished, part.num_shards) == (4, 3, 2)
    assert runs[-1].shard == 2


@pytest.fixture
def running(folder: RunFolder) -> Iterator[PlannedRun]:
    """A run in its third epoch of three, held by its worker."""
    run = next(folder.plan())
    with folder.run_locked(run):
        open_journal(folder.journal_file(run), fake_run(run.number))
        for epoch in range(3):
            append_epoch(
                folder.journal_file(run),
                epoch=epoch,
                metrics={"train_seconds": 0.3, "evaluation_seconds": 0.2},
                environment={"device_name": "fake"},
                state_crc32c=0,
            )
        yield run


def test_status_tells_pace_and_time_left_by_device(folder: RunFolder, running: PlannedRun) -> None:
    found = status(folder)
    assert (found.num_running, found.num_waiting) == (1, 6)
    (device,) = found.devices
    assert device.name == "fake"
    assert device.seconds_per_epoch == pytest.approx(0.5)
    assert found.epochs_per_hour == pytest.approx(7200)
    assert found.seconds_left == pytest.approx(0.5 * (21 - 2))


def test_until_the_first_epoch_ends_the_pace_is_the_calibrated_one(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], dtb: Dtb
) -> None:
    run = next(folder.plan())
    folder.write_calibration(30.0)  # for three epochs
    with folder.run_locked(run):
        open_journal(folder.journal_file(run), fake_run(run.number))
        found = status(folder)
        assert found.seconds_left == pytest.approx(10.0 * 21)
        assert Forecast(folder, None).text(0) == "about 0:03:30 left"
        assert dtb("status", folder.path) == 0
    assert "360 epochs an hour, 0:03:30 left" in capsys.readouterr().out


def test_a_run_that_nobody_holds_has_no_pace(folder: RunFolder) -> None:
    run = next(folder.plan())
    folder.working_folder(0).mkdir(parents=True)
    open_journal(folder.journal_file(run), fake_run(run.number))
    append(folder.journal_file(run), run.number, 0)
    found = status(folder)
    assert (found.num_running, found.num_started, found.devices) == (0, 1, ())
    assert found.seconds_left is None


def test_watching_prints_a_line_each_time_until_every_run_has_finished(
    folder: RunFolder, dtb: Dtb, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from dtb_builder.stages.generation import monitor

    drive(folder, MortalEngine(is_lost=False, deaths={}), monkeypatch, shards="0-1")
    capsys.readouterr()

    def finish(_seconds: float) -> None:
        drive(folder, MortalEngine(is_lost=False, deaths={}), monkeypatch)

    monkeypatch.setattr(monitor.time, "sleep", finish)
    assert dtb("status", folder.path, "--watch", "0.1") == 0
    first, last = capsys.readouterr().out.splitlines()
    assert "6/7 runs, 0 running, 1 waiting" in first
    assert "7/7 runs" in last
    assert "0:00:00 left" in last


def test_watching_ends_where_nobody_works_and_the_rest_was_given_up(
    folder: RunFolder, dtb: Dtb, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from dtb_builder.stages.generation import monitor

    monkeypatch.setattr(monitor.time, "sleep", lambda _: pytest.fail("it looks again"))
    drive(folder, MortalEngine(is_lost=False, deaths={0: 0, 1: 0}), monkeypatch)
    capsys.readouterr()
    assert dtb("status", folder.path, "--watch", "0.1") == 1
    assert "6/7 runs, 0 running, 0 waiting, 1 given up" in capsys.readouterr().out


def test_a_failed_run_is_shown_with_its_log_and_with_how_it_is_tried_again(
    folder: RunFolder, dtb: Dtb, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    drive(folder, MortalEngine(is_lost=False, deaths={0: 0, 1: 0}), monkeypatch)
    capsys.readouterr()
    assert dtb("status", folder.path) == 0
    *_, failure, log, hint = capsys.readouterr().out.splitlines()
    assert failure.startswith("run 0 failed 2 times, given up: ")
    assert log.strip() == str(folder.log_file(next(folder.plan())))
    assert hint == f"dtb generate {folder.path} retry=failed tries again what was given up"
