"""The loop that keeps an engine busy, with an engine that does what a test says."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos.fake_runs import append, fake_run, write_journal

from dtb_builder.cli import main
from dtb_builder.dataset.journal import append_epoch, open_journal
from dtb_builder.stages.generation import driver
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
        (tasks,) = call.arguments
        self.begun.append(tuple(task.key.number for task in tasks))
        num_survived = self._deaths.get(len(self.begun) - 1)
        if num_survived is None:
            return super().wait(seconds=seconds)
        self._calls.popleft()
        call.function(tasks[:num_survived])
        return [CallEnd(call.key, None, OSError("gone"), self._is_lost)]


def pretend(path: Path, run: PlannedRun, _limit: float | None) -> None:
    """Write the journal of a run that nobody trains."""
    journal = RunFolder(path).journal_file(run)
    journal.parent.mkdir(parents=True, exist_ok=True)
    write_journal(journal, run.number)


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
    assert events[-1] == driver.Progress(7 * 4)
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
    assert (found.num_epochs, found.num_planned_epochs) == (24, 28)
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
    assert found.seconds_left == pytest.approx(0.5 * (28 - 3))


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
