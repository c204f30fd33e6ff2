import errno
import json
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from dtb_builder import Benchmark
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.journal import peek_journal, read_journal
from dtb_builder.errors import LockedError, TimeLimitError
from dtb_builder.images import loaders
from dtb_builder.network.state import capture
from dtb_builder.stages.generation import driver, run_folder
from dtb_builder.stages.generation import worker as workers
from dtb_builder.stages.generation.outcomes import close_shard
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.generation.status import status
from dtb_builder.stages.settings.config import Config
from dtb_builder.training.environment import environment
from dtb_builder.training.evaluation import evaluate
from dtb_builder.training.finished import FinishedEpoch
from dtb_builder.training.kernels import kernels_name, library_of
from dtb_builder.training.loop import train
from dtb_builder.training.momentum import restore_momentum
from dtb_builder.training.resident import make_resident
from dtb_builder.training.resume import Checkpoint
from dtb_builder.training.setup import set_up_torch

Dtb = Callable[..., int]
Content = Callable[[Path], dict[Any, Any]]


def stop_after(monkeypatch: pytest.MonkeyPatch, num_appends: int, *, before: bool = False) -> None:
    """Have the process die, as by Ctrl-C, around its next n-th append to a journal."""
    append, count = workers.append_epoch, 0

    def dying(path: Path, **epoch: Any) -> None:
        nonlocal count
        count += 1
        if before and count == num_appends:
            raise KeyboardInterrupt
        append(path, **epoch)
        if count == num_appends:
            raise KeyboardInterrupt

    monkeypatch.setattr(workers, "append_epoch", dying)


def fail_for(monkeypatch: pytest.MonkeyPatch, number: int, error: Exception) -> None:
    """Have the training of one run raise after its epoch 0."""
    store = workers._store

    def failing(folder: RunFolder, run: PlannedRun, *rest: Any) -> Any:
        metrics = store(folder, run, *rest)
        if run.number == number:
            raise error
        return metrics

    monkeypatch.setattr(workers, "_store", failing)


def test_a_stored_state_reproduces_its_stored_accuracy_exactly(finished: Path) -> None:
    config = RunFolder(finished).config
    set_up_torch(threads=1, deterministic=True)
    images, split = workers.load_split_images(config.images)
    data = make_resident(images, split, "cpu")
    with Benchmark(finished / "dtb.h5") as benchmark:
        for run in benchmark:
            for epoch in run.state_epochs:
                network = run.network(epoch=epoch)
                for name, part in (("valid", data.valid), ("test", data.test)):
                    found = evaluate(network, part, data)
                    assert found.accuracy == run.metric(f"{name}_accuracy", epoch=epoch)
                    assert found.loss == run.metric(f"{name}_loss", epoch=epoch)


def test_what_was_never_measured_is_masked(finished: Path) -> None:
    with Benchmark(finished / "dtb.h5") as benchmark:
        run = benchmark.run(0)
        assert run.curve("train_loss").mask.tolist() == [True, False, False, False]
        assert not run.curve("valid_accuracy").mask.any()
        assert (
            run.metric("learning_rate", epoch=1)
            == benchmark.provenance["config"]["recipe"]["learning_rate"]
        )


def test_every_epoch_names_its_device(finished: Path) -> None:
    compute = RunFolder(finished).config.compute
    set_up_torch(threads=compute.threads, deterministic=compute.deterministic)
    facts = environment("cpu", kernels=kernels_name(compute))
    with Benchmark(finished / "dtb.h5") as benchmark:
        for run in benchmark:
            assert [run.environment(epoch=epoch) for epoch in range(4)] == [facts] * 4


def test_a_machine_without_the_device_fails_no_run(
    tmp_path: Path, generate: Dtb, refused_without_a_gpu: Callable[..., None]
) -> None:
    refused_without_a_gpu(generate, tmp_path)
    assert status(RunFolder(tmp_path)).failed == ()


def test_a_shard_opens_as_a_benchmark(finished: Path) -> None:
    with Benchmark(finished / "shards" / "shard-00001.h5") as shard:
        assert shard.numbers.tolist() == [1]
        assert shard.run(1).network(epoch=-1)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_generating_again_does_nothing(
    finished: Path, tmp_path: Path, generate: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(workers, "training", lambda *_: pytest.fail("something was trained"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.h5")}
    assert generate(folder) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.h5")} == before


@pytest.mark.parametrize("num_appends", range(1, 9))
@pytest.mark.parametrize("before", [False, True])
def test_a_stopped_generation_goes_on_to_the_same_content(
    num_appends: int,
    before: bool,
    finished: Path,
    tmp_path: Path,
    generate: Dtb,
    dtb: Dtb,
    content: Content,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, num_appends, before=before)
        assert generate(tmp_path / "run") == 130
    assert generate(tmp_path / "run") == 0
    assert dtb("merge", tmp_path / "run") == 0
    assert content(tmp_path / "run" / "dtb.h5") == content(finished / "dtb.h5")


def test_going_on_trains_only_what_is_left(
    tmp_path: Path, generate: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        generate(tmp_path)
    seen: list[tuple[int, int]] = []
    store = workers._store

    def noting(
        folder: RunFolder, run: PlannedRun, config: Any, finished: FinishedEpoch, *others: Any
    ) -> Any:
        seen.append((run.number, finished.epoch))
        return store(folder, run, config, finished, *others)

    monkeypatch.setattr(workers, "_store", noting)
    generate(tmp_path)
    assert seen == [(0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]


def test_a_run_without_its_checkpoint_begins_again_to_the_same_content(
    finished: Path,
    tmp_path: Path,
    generate: Dtb,
    dtb: Dtb,
    content: Content,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        generate(folder.path)
    checkpoint = folder.checkpoint_file(next(folder.plan()), 2)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    assert generate(folder.path) == 0
    said = "run 0: the checkpoint of epoch 2 is no use: a checkpoint of"
    assert said in (printed := capsys.readouterr().err)
    assert "; it begins again from epoch 0\n" in printed
    dtb("merge", folder.path)
    assert content(folder.benchmark_file) == content(finished / "dtb.h5")


@pytest.mark.parametrize(
    ("momentum", "first"), [("none", "begins again from epoch 0"), ("all", "goes on from epoch 1")]
)
def test_a_finished_run_whose_journal_is_damaged_is_named_and_keeps_what_it_can(
    momentum: str,
    first: str,
    tmp_path: Path,
    generate: Dtb,
    dtb: Dtb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = ("shard_size=2", "states.key_every=1", f"states.momentum={momentum}")
    folder = RunFolder(tmp_path)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)  # all epochs of the first run, and one of the next
        assert generate(folder.path, *settings) == 130
    journal = read_journal(folder.journal_file(next(folder.plan())))
    assert journal is not None
    with journal.path.open("r+b") as file:
        file.seek(journal.epochs[3].offset - 9)  # of the frames of epoch 2
        file.write(b"?")
    with monkeypatch.context() as patch:
        stop_after(patch, 3 + (4 if momentum == "none" else 2))  # the other run, then what is lost
        assert dtb("generate", folder.path, "cluster=serial") == 130
    damage = f"run 0: its journal is damaged in epoch 2; it {first}"
    assert damage in status(folder).damaged
    capsys.readouterr()
    assert dtb("status", folder.path) == 0
    assert damage in capsys.readouterr().out
    assert dtb("generate", folder.path, "cluster=serial") == 0
    assert dtb("reproduce", folder.shard_file(0), "--run", 0) == 0


def test_a_failing_run_is_tried_recorded_and_given_up_while_the_others_go_on(
    tmp_path: Path,
    generate: Dtb,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_for(monkeypatch, 0, FloatingPointError("the loss exploded"))
    assert generate(tmp_path, "cluster.max_attempts=2") == 1
    found = status(RunFolder(tmp_path))
    assert (found.num_finished, found.num_given_up, found.num_closed_shards) == (1, 1, 1)
    (failed,) = found.failed
    assert (failed.number, failed.attempts) == (0, 2)
    assert failed.reason == "FloatingPointError: the loss exploded"
    assert "run 0 failed 2 times, given up" in capsys.readouterr().out


def test_a_run_given_up_is_left_alone_until_retried(
    finished: Path,
    tmp_path: Path,
    generate: Dtb,
    dtb: Dtb,
    content: Content,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        fail_for(patch, 0, FloatingPointError("the loss exploded"))
        generate(folder.path, "cluster.max_attempts=1")
    assert generate(folder.path) == 1
    assert len(folder.failures(next(folder.plan())).messages) == 1
    assert generate(folder.path, "retry=failed") == 0
    assert dtb("merge", folder.path) == 0
    assert content(folder.benchmark_file) == content(finished / "dtb.h5")


def test_images_other_than_those_planned_are_refused(
    tmp_path: Path,
    generate: Dtb,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = RunFolder(tmp_path)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        generate(folder.path)
    planned = folder.provenance_settings["images"]["sha256"]
    changed = folder.provenance.replace(planned, "0" * 64)
    folder.provenance_file.write_text(changed)
    assert generate(folder.path) == 2
    assert "is not what" in capsys.readouterr().err
    assert not folder.failures(next(folder.plan())).messages


def test_only_the_epochs_asked_for_keep_their_states(
    tmp_path: Path, generate: Dtb, dtb: Dtb
) -> None:
    generate(tmp_path, "states=ends")
    dtb("merge", tmp_path)
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        run = benchmark.run(0)
        assert run.state_epochs == (0, 3)
        with pytest.raises(KeyError, match=r"epoch 1 was not kept; kept are 0, 3"):
            run.state(epoch=1)


def test_two_generations_on_one_folder_are_refused(
    tmp_path: Path, generate: Dtb, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path)
    with RunFolder(tmp_path).locked():
        assert dtb("generate", tmp_path, "cluster=serial") == 2
        assert dtb("merge", tmp_path) == 2
        with pytest.raises(LockedError), RunFolder(tmp_path).locked():
            pass
    assert "is in use by process" in capsys.readouterr().err


def test_counting_a_journal_agrees_with_reading_it(
    tmp_path: Path, generate: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        generate(folder.path)
    file = folder.journal_file(next(folder.plan()))
    journal = read_journal(file)
    assert journal is not None
    assert peek_journal(file).num_epochs == len(journal.epochs) == 3
    found = status(folder)
    assert (found.num_started, found.num_waiting, found.num_epochs) == (1, 1, 2)


def test_the_checkpoint_of_the_last_epoch_in_the_journal_is_always_there(
    tmp_path: Path, generate: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    append = workers.append_epoch

    def checking(path: Path, **epoch: Any) -> None:
        append(path, **epoch)
        if epoch["epoch"] < 3:
            run = next(run for run in folder.plan() if folder.journal_file(run) == path)
            assert folder.checkpoint_file(run, epoch["epoch"]).exists()

    store = workers._store

    def storing(
        folder: RunFolder, run: PlannedRun, config: Any, finished: FinishedEpoch, *others: Any
    ) -> Any:
        metrics = store(folder, run, config, finished, *others)
        if finished.epoch < 3:
            assert folder.checkpoint_file(run, finished.epoch).exists()
        return metrics

    monkeypatch.setattr(workers, "append_epoch", checking)
    monkeypatch.setattr(workers, "_store", storing)
    assert generate(folder.path) == 0


def test_runs_that_diverge_are_data_up_to_their_last_good_epoch(
    tmp_path: Path, generate: Dtb, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("recipe.learning_rate=1e30", "recipe.gradient_clip=null")
    assert generate(tmp_path, *settings) == 0
    assert "run 0 diverged: epoch 1 ended with {'train_loss': nan" in capsys.readouterr().err
    found = status(RunFolder(tmp_path))
    assert (found.is_complete, found.num_given_up) == (True, 0)
    assert dtb("merge", tmp_path) == dtb("verify", tmp_path / "dtb.h5") == 0
    assert dtb("info", tmp_path / "dtb.h5") == 0
    assert "diverged    2 runs" in capsys.readouterr().out
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        assert benchmark.last_epochs.tolist() == [0, 0]
        assert benchmark.array("valid_loss").count(axis=1).tolist() == [1, 1]
        assert benchmark.run(0).state_epochs == (0,)
    assert dtb("reproduce", tmp_path / "dtb.h5", "--run", 0) == 0


def test_runs_that_diverge_at_their_initialisation_are_given_up_at_once_and_nothing_is_merged(
    tmp_path: Path,
    generate: Dtb,
    dtb: Dtb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(workers, "_not_finite", lambda _: "its loss was no number")
    assert generate(tmp_path) == 1
    found = status(RunFolder(tmp_path))
    assert [(each.attempts, each.given_up) for each in found.failed] == [(1, True), (1, True)]
    assert "retry=failed" not in capsys.readouterr().out
    assert dtb("merge", tmp_path) == 2
    assert "retry=failed" not in capsys.readouterr().err
    assert dtb("merge", tmp_path, "allow_missing=true") == 2
    assert "has no finished run to merge" in capsys.readouterr().err
    assert not (tmp_path / "dtb.h5").exists()


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have a run's loss be no number after an epoch that comes so many epochs from now."""

    def after(num_epochs: int) -> None:
        left = iter([None] * num_epochs + ["its loss was no number"])
        monkeypatch.setattr(workers, "_not_finite", lambda _: next(left, None))

    return after


def test_a_run_that_diverged_is_finished_and_stands_beside_the_others(
    tmp_path: Path, generate: Dtb, dtb: Dtb, diverging: Callable[[int], None], content: Content
) -> None:
    whole, folder = tmp_path / "whole", RunFolder(tmp_path / "diverged")
    assert generate(whole, "shard_size=2") == dtb("merge", whole) == 0
    diverging(2)
    assert generate(folder.path, "shard_size=2") == dtb("merge", folder.path) == 0
    found, expected = content(folder.benchmark_file), content(whole / "dtb.h5")
    assert {k: v for k, v in found.items() if k[0] == 1} == {
        k: v for k, v in expected.items() if k[0] == 1
    }
    with Benchmark(folder.benchmark_file) as benchmark:
        assert benchmark.last_epochs.tolist() == [1, 3]
        assert benchmark.run(0).moments[-1].epoch == 1


def test_a_run_that_diverged_is_not_trained_again(
    tmp_path: Path,
    generate: Dtb,
    diverging: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = RunFolder(tmp_path)
    diverging(2)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)  # two epochs of the first run, and one of the next
        assert generate(folder.path, "shard_size=2") == 130
    first = next(folder.plan())
    before = folder.journal_file(first).read_bytes()
    assert not folder.checkpoint_files(first)
    journals: list[Path] = []
    append = workers.append_epoch

    def noted(path: Path, **epoch: Any) -> None:
        journals.append(path)
        assert folder.journal_file(first).read_bytes() == before
        append(path, **epoch)

    monkeypatch.setattr(workers, "append_epoch", noted)
    assert generate(folder.path, "shard_size=2") == 0
    assert len(journals) == 3
    assert folder.journal_file(first) not in journals


def test_every_order_seed_trains_the_same_initialisation_in_another_order(
    tmp_path: Path, generate: Dtb, dtb: Dtb, finished: Path
) -> None:
    settings = ("space.num_genotypes=1", "seeds=[0,1]", "order_seeds=[5,0]")
    assert generate(tmp_path, *settings) == dtb("merge", tmp_path) == 0
    with Benchmark(tmp_path / "dtb.h5") as benchmark, Benchmark(finished / "dtb.h5") as plain:
        assert benchmark.seeds.tolist() == [0, 0, 1, 1]
        assert benchmark.order_seeds.tolist() == [5, 0, 5, 0]
        other, same, *_ = benchmark
        for epoch in range(4):
            known = plain.run(0).state_crc32c(epoch=epoch)
            assert same.state_crc32c(epoch=epoch) == known
            assert (other.state_crc32c(epoch=epoch) == known) == (epoch == 0)
        assert benchmark.run(2).state_crc32c(epoch=0) != same.state_crc32c(epoch=0)
        assert benchmark[same.genotype, 0, 5] == other


def test_a_training_goes_on_from_what_a_benchmark_has_of_it(
    tmp_path: Path, generate: Dtb, dtb: Dtb
) -> None:
    assert generate(tmp_path, "states.momentum=[1,-1]") == dtb("merge", tmp_path) == 0
    config = RunFolder(tmp_path).config
    recipe, (_, data) = config.recipe, workers._make_ready(config)
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        run = benchmark.run(1)
        assert run.momentum_epochs == (1, 3)
        network, twin = run.network(epoch=1), run.network(epoch=0)
        optimizer = SGD(network.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
        optimizer.param_groups[0]["weight_decay"] = recipe.weight_decay
        values = [array.reshape(-1) for array in run.momentum(epoch=1).values()]
        restore_momentum(network, optimizer, np.concatenate(values))
        scheduler = CosineAnnealingLR(optimizer, recipe.num_epochs, recipe.min_learning_rate)
        optimizer._opt_called = True  # pyright: ignore[reportAttributeAccessIssue] - torch warns
        scheduler.step()
        checkpoint = Checkpoint.capture(FinishedEpoch(1, {}, network, optimizer, scheduler))
        twin.use_kernels(library_of(config.compute))
        epochs = train(twin, data, recipe, seed=run.order_seed, resume=checkpoint)
        found = [crc32c(capture(epoch.network).values.data) for epoch in epochs]
        assert found == [run.state_crc32c(epoch=epoch) for epoch in (2, 3)]


def test_a_run_that_exceeds_its_time_limit_is_a_failure_and_the_others_go_on(
    tmp_path: Path, generate: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = workers._store

    def slow(folder: RunFolder, run: PlannedRun, *rest: Any) -> Any:
        metrics = store(folder, run, *rest)
        if run.number == 0:
            left, _ = signal.getitimer(signal.ITIMER_REAL)
            assert 0 < left <= 600
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # as if ten minutes had passed
            time.sleep(60)
        return metrics

    monkeypatch.setattr(workers, "_store", slow)
    settings = ("cluster.time_limit=600", "cluster.max_attempts=1")
    assert generate(tmp_path, *settings) == 1
    found = status(RunFolder(tmp_path))
    assert (found.num_finished, found.num_given_up) == (1, 1)
    reason = "TimeLimitError: took longer than cluster.time_limit = 600 seconds; retry=failed with"
    assert reason in found.failed[0].reason


def test_runs_that_train_together_are_those_that_train_alone(
    finished: Path,
    tmp_path: Path,
    generate: Dtb,
    dtb: Dtb,
    content: Content,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though one fails, and is resumed, while the other goes on."""
    folder = RunFolder(tmp_path)
    begun: list[tuple[int, int]] = []
    store, failures = workers._store, iter([RuntimeError("a bad moment")])

    def noting(folder: RunFolder, run: PlannedRun, *rest: Any) -> Any:
        metrics = store(folder, run, *rest)
        begun.append((run.number, rest[1].epoch))
        if begun[-1] == (0, 1) and (error := next(failures, None)):
            raise error
        return metrics

    monkeypatch.setattr(workers, "_store", noting)
    settings = ("cluster.runs_per_task=2", "cluster.together=2", "cluster.time_limit=600")
    assert generate(tmp_path, *settings, "shard_size=2") == 0
    assert begun == [
        *((i, epoch) for epoch in (0, 1) for i in (0, 1)),
        (1, 2),
        (1, 3),
        (0, 2),
        (0, 3),
    ]
    assert "RuntimeError: a bad moment" in folder.log_file(next(folder.plan())).read_text()
    assert dtb("merge", tmp_path) == 0
    together, alone = (content(file / "dtb.h5") for file in (tmp_path, finished))
    assert together == alone


def test_getting_ready_takes_none_of_a_runs_time(
    tmp_path: Path, generate: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = workers._make_ready
    limits: list[float] = []

    def noting(config: Config) -> Any:
        limits.append(signal.getitimer(signal.ITIMER_REAL)[0])
        return ready(config)

    monkeypatch.setattr(workers, "_make_ready", noting)
    assert generate(tmp_path, "cluster.time_limit=600", "space.num_genotypes=1") == 0
    assert limits[0] == 0


def test_a_time_limit_that_strikes_while_images_are_read_is_the_runs_and_no_fault_of_the_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def struck(_root: Path | None) -> Any:
        raise TimeLimitError("took longer")

    monkeypatch.setattr(loaders, "_LOADERS", {"digits": struck})
    with pytest.raises(TimeLimitError):
        loaders.load_images("digits", None)


@pytest.mark.parametrize("limit", [1_000, 20_000, 60_000])
def test_a_full_disk_is_a_clear_error_that_harms_nothing(
    limit: int,
    finished: Path,
    tmp_path: Path,
    generate: Dtb,
    dtb: Dtb,
    content: Content,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = RunFolder(tmp_path / "run")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        assert generate(folder.path) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written to" in capsys.readouterr().err
    if folder.is_planned:
        assert not any(folder.failures(run).messages for run in folder.plan())
    assert generate(folder.path) == 0
    assert dtb("merge", folder.path) == 0
    assert content(folder.benchmark_file) == content(finished / "dtb.h5")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_fails_is_no_fault_of_the_run(
    number: int,
    tmp_path: Path,
    generate: Dtb,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(path: Path, **_epoch: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(workers, "append_epoch", failing)
        assert generate(tmp_path) == 2
    assert os.strerror(number) in capsys.readouterr().err
    folder = RunFolder(tmp_path)
    assert not any(folder.failures(run).messages for run in folder.plan())
    assert generate(tmp_path) == 0


def test_a_folder_that_vanishes_is_a_clear_error(
    tmp_path: Path,
    generate: Dtb,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append = workers.append_epoch

    def vanishing(path: Path, **epoch: Any) -> None:
        append(path, **epoch)
        if epoch["epoch"] == 1:
            shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(workers, "append_epoch", vanishing)
    assert generate(tmp_path / "run") == 2
    assert "cannot be written to: No such file or directory" in capsys.readouterr().err


def test_a_lock_left_by_a_dead_holder_is_noticed_and_taken(
    tmp_path: Path, dtb: Dtb, caplog: pytest.LogCaptureFixture
) -> None:
    dtb("plan", tmp_path)
    left = {"host": "node7", "process": 4242, "since": "2026-01-01T00:00:00+00:00"}
    (tmp_path / ".lock.json").write_text(json.dumps(left))
    assert RunFolder(tmp_path).holders() == ()
    with RunFolder(tmp_path).locked():
        assert "process 4242 on node7 since 2026-01-01" in caplog.text
        assert "died" in caplog.text
        (holder,) = RunFolder(tmp_path).holders()
        assert f"process {os.getpid()}" in holder


def test_a_lock_that_may_not_be_tried_is_still_told_of(
    tmp_path: Path, generate: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(tmp_path)
    (tmp_path / ".lock.json").write_text('{"host": "far", "process": 7, "since": "then"}')

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dtb_builder.stages.work.locking.fcntl.flock", denied)
    holders = status(RunFolder(tmp_path)).holders
    assert holders == ("process 7 on far since then, if it is still alive",)


def test_a_shard_whose_closing_fails_is_closed_at_the_next_attempt(
    tmp_path: Path, generate: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_calls = 0

    def failing_once(*arguments: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 1:
            raise RuntimeError("its process died")
        return close_shard(*arguments)

    monkeypatch.setattr(driver, "close_shard", failing_once)
    assert generate(tmp_path) == 0
    assert num_calls == 1 + len(RunFolder(tmp_path).shard_files())


def test_a_torn_list_of_failures_is_named(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path)
    folder = RunFolder(tmp_path)
    file = folder.failures_file(next(folder.plan()))
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert dtb("status", tmp_path) == 2
    assert f"{file} is not JSON" in capsys.readouterr().err


def test_the_shard_size_may_not_change_and_says_so(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path, "shard_size=2")
    assert dtb("generate", tmp_path, "shard_size=3") == 2
    assert "shard_size: 2 when it was planned, 3 now" in capsys.readouterr().err


def test_a_run_is_held_by_one_process(tmp_path: Path, dtb: Dtb, monkeypatch: Any) -> None:
    dtb("plan", tmp_path)
    folder = RunFolder(tmp_path)
    run = next(folder.plan())
    monkeypatch.setattr(run_folder, "_RUN_LOCK_SECONDS", 0.1)
    other = RunFolder(tmp_path)
    refused = pytest.raises(LockedError, match="another process trains run 0")
    with folder.run_locked(run), refused, other.run_locked(run):
        pass
