from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from dtb_builder import Benchmark
from dtb_builder.dataset.journal import Journal, read_journal
from dtb_builder.dataset.salvage import SavedRun, salvage
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.store import FailedRun
from dtb_builder.space import sample_uniform
from dtb_builder.stages.generation import worker as workers
from dtb_builder.stages.generation.run_folder import RunFolder

Dtb = Callable[..., int]
NUM_EPOCHS = 3
STEPS = (1, 5)
Content = Callable[[Path], dict[Any, Any]]


def damage_state(path: Path, row: int) -> None:
    with Benchmark(path) as benchmark:
        offset = int(benchmark._store.index.column("moments/offset")[row, 4])  # epoch 2's
    data = bytearray(path.read_bytes())
    data[offset + 40] ^= 1
    path.write_bytes(data)


@pytest.fixture
def folder(dtb: Dtb, tmp_path: Path) -> RunFolder:
    """Two runs in one shard, trained and merged."""
    settings = (
        "images.num_valid=1300",
        "network.channels=2",
        "network.layers=2",
        f"recipe.num_epochs={NUM_EPOCHS}",
        f"states.steps={list(STEPS)}",
        "states.key_every=2",
    )
    assert dtb("generate", tmp_path, *settings, "space.num_genotypes=2", "cluster=serial") == 0
    assert dtb("merge", tmp_path) == 0
    return RunFolder(tmp_path)


def test_a_volume_that_is_elsewhere_is_no_damage(
    folder: RunFolder, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("merge", folder.path, "volume_size=1") == 0
    with Benchmark(folder.benchmark_file) as benchmark:
        _, first, *_ = benchmark.files
    first.rename(first.with_name("elsewhere"))
    assert dtb("repair", folder.benchmark_file) == 2
    assert f"{first} is missing" in capsys.readouterr().err
    assert not list(folder.path.glob("*.repaired*"))
    capsys.readouterr()
    assert dtb("repair", folder.benchmark_file, "--without-volumes") == 1
    assert "1 runs saved" in capsys.readouterr().out


def test_a_damaged_shard_is_made_whole_by_training_only_what_was_lost(
    folder: RunFolder,
    dtb: Dtb,
    content: Content,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = content(folder.benchmark_file)
    damage_state(folder.shard_file(0), 1)
    assert dtb("merge", folder.path) == 2
    capsys.readouterr()
    assert dtb("repair", folder.path) == 1
    printed = capsys.readouterr().out
    assert "1 runs saved" in printed
    assert "run 1 is lost: the state of run 1 after epoch 2 is damaged" in printed
    trained: list[int] = []
    train = workers.train_in_turns

    def noting(*arguments: Any, **options: Any) -> Any:
        trained.append(1)
        return train(*arguments, **options)

    monkeypatch.setattr(workers, "train_in_turns", noting)
    assert dtb("generate", folder.path, "cluster=serial") == 0
    assert trained == [1]
    assert dtb("merge", folder.path) == 0
    assert content(folder.benchmark_file) == before
    assert (folder.path / "damaged" / "shard-00000.h5").exists()


def test_a_shard_that_cannot_even_be_opened_is_trained_again(
    folder: RunFolder, dtb: Dtb, content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder.benchmark_file)
    file = folder.shard_file(0)
    file.write_bytes(file.read_bytes()[:1000])
    assert dtb("repair", folder.path) == 1
    printed = capsys.readouterr().out
    assert "run 0 is lost" in printed
    assert "run 1 is lost" in printed
    assert dtb("generate", folder.path, "cluster=serial") == 0
    assert dtb("merge", folder.path) == 0
    assert content(folder.benchmark_file) == before


def test_a_damaged_benchmark_is_written_anew_with_its_intact_runs(
    folder: RunFolder, dtb: Dtb, content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder.benchmark_file)
    damage_state(folder.benchmark_file, 0)
    assert dtb("repair", folder.benchmark_file) == 1
    assert "run 0 is lost" in capsys.readouterr().out
    repaired = folder.path / "dtb.repaired.h5"
    assert dtb("verify", repaired) == 0
    assert content(repaired) == {key: value for key, value in before.items() if key[0] == 1}


def test_what_is_not_damaged_is_left_alone(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (finished, finished / "dtb.h5"):
        assert dtb("repair", path) == 0
        assert "nothing is damaged" in capsys.readouterr().out


def test_a_repair_that_was_stopped_can_be_repeated(folder: RunFolder, dtb: Dtb) -> None:
    damage_state(folder.shard_file(0), 1)
    damaged = folder.shard_file(0).read_bytes()
    assert dtb("repair", folder.path) == 1
    # As if the machine had died before the damaged shard was set aside.
    folder.shard_file(0).write_bytes(damaged)
    assert dtb("repair", folder.path) == 1
    assert dtb("generate", folder.path, "cluster=serial") == 0
    assert dtb("status", folder.path, "--check") == 0


def test_a_repaired_benchmark_still_lists_its_failed_runs(
    folder: RunFolder, dtb: Dtb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = FailedRun(7, sample_uniform(0, 7), 0, 0, 3, "RuntimeError: no luck")
    journals = [journal_of(folder, number, tmp_path) for number in (0, 1)]
    damaged = tmp_path / "with_failures.h5"
    write_shard(
        damaged,
        journals,
        [failed],
        provenance=folder.provenance,
        num_epochs=NUM_EPOCHS,
        moments=folder.moments,
    )
    damage_state(damaged, 0)
    assert dtb("repair", damaged) == 1
    with Benchmark(tmp_path / "with_failures.repaired.h5") as benchmark:
        assert benchmark.failures == (failed,)
        assert benchmark.numbers.tolist() == [1]
    with h5py.File(damaged, "r+") as file:
        attempts = file["failures/attempts"]
        assert isinstance(attempts, h5py.Dataset)
        attempts[0] = 4
    capsys.readouterr()
    assert dtb("repair", damaged) == 1
    assert "the list of failed runs is lost" in capsys.readouterr().out


def journal_of(folder: RunFolder, number: int, work: Path) -> Journal:
    saved = next(
        run
        for run in salvage(folder.shard_file(0), work, plan=folder.plan_id)
        if isinstance(run, SavedRun) and run.number == number
    )
    journal = read_journal(saved.journal)
    assert journal is not None
    return journal


def test_a_second_repair_keeps_what_the_first_one_saved(folder: RunFolder, dtb: Dtb) -> None:
    damage_state(folder.benchmark_file, 0)
    assert dtb("repair", folder.benchmark_file) == 1
    first = folder.path / "dtb.repaired.h5"
    saved = first.read_bytes()
    damage_state(folder.benchmark_file, 0)  # mends run 0
    damage_state(folder.benchmark_file, 1)
    assert dtb("repair", folder.benchmark_file) == 1
    assert first.read_bytes() == saved
    with Benchmark(folder.path / "dtb.repaired-2.h5") as benchmark:
        assert benchmark.numbers.tolist() == [0]


def test_every_shard_that_was_set_aside_is_kept(folder: RunFolder, dtb: Dtb) -> None:
    for _ in range(2):
        damage_state(folder.shard_file(0), 1)
        assert dtb("repair", folder.path) == 1
        assert dtb("generate", folder.path, "cluster=serial") == 0
    names = sorted(path.name for path in (folder.path / "damaged").iterdir())
    assert names == ["shard-00000-2.h5", "shard-00000.h5"]
