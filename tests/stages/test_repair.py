from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtb_builder import Benchmark
from dtb_builder.stages import workers
from dtb_builder.stages.run_folder import RunFolder

Dtb = Callable[..., int]
Content = Callable[[Path], dict[Any, Any]]


def damage_state(path: Path, row: int) -> None:
    with Benchmark(path) as benchmark:
        offset = int(benchmark._store.index.column("state_index/offset")[row, 1])
    data = bytearray(path.read_bytes())
    data[offset + 40] ^= 1
    path.write_bytes(data)


@pytest.fixture
def folder(dtb: Dtb, tmp_path: Path) -> RunFolder:
    """Two runs in one shard, trained and merged."""
    settings = ("images.num_valid=1300", "network.channels=2", "network.layers=2")
    assert dtb("generate", tmp_path, *settings, "space.num_genotypes=2", "cluster=serial") == 0
    assert dtb("merge", tmp_path) == 0
    return RunFolder(tmp_path)


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
    assert "run 1 is lost: the state of run 1 after epoch 1 is damaged" in printed
    trained: list[int] = []
    train = workers.train

    def noting(*arguments: Any, **options: Any) -> Any:
        trained.append(1)
        return train(*arguments, **options)

    monkeypatch.setattr(workers, "train", noting)
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
