import resource
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dtb_builder import Benchmark
from dtb_builder.errors import MissingVolumeError
from dtb_builder.stages.generation import worker as workers
from dtb_builder.stages.generation.run_folder import RunFolder

Dtb = Callable[..., int]


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> RunFolder:
    """A finished run folder to write to."""
    return RunFolder(shutil.copytree(finished, tmp_path / "run"))


def test_merging_again_gives_the_same_bytes(folder: RunFolder, dtb: Dtb) -> None:
    before = sha256(folder.benchmark_file.read_bytes()).hexdigest()
    assert dtb("merge", folder.path) == 0
    assert sha256(folder.benchmark_file.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("number", [1, 9], ids=["in the place of a planned one", "beside them"])
def test_a_shard_of_another_study_is_named_by_every_command_and_never_merged(
    number: int,
    folder: RunFolder,
    other_study: Path,
    dtb: Dtb,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = folder.benchmark_file.read_bytes()
    file = folder.shard_file(number)
    shutil.copy(RunFolder(other_study).shard_file(1), file)
    for command in (("merge",), ("generate", "cluster=serial")):
        assert dtb(command[0], folder.path, *command[1:]) == 2
        assert f"{file} is not a shard of {folder.path}" in capsys.readouterr().err
    assert dtb("status", folder.path, "--check") == 1
    assert f"{file} is not a shard of this plan" in capsys.readouterr().out
    assert folder.benchmark_file.read_bytes() == before
    assert dtb("repair", folder.path) == 0
    assert folder.damaged_file(file).exists()
    assert dtb("generate", folder.path, "cluster=serial") == 0
    assert dtb("merge", folder.path) == 0
    assert list_of_runs(folder) == [0, 1]


def test_a_shard_under_the_name_of_another_is_named(
    folder: RunFolder, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(folder.shard_file(0), folder.shard_file(1))
    assert dtb("merge", folder.path) == 2
    assert "its run 0 is not planned for this shard" in capsys.readouterr().err
    assert dtb("status", folder.path, "--check") == 1
    assert "1 of 2 finished" in capsys.readouterr().out


def list_of_runs(folder: RunFolder) -> list[int]:
    with Benchmark(folder.benchmark_file) as benchmark:
        return benchmark.numbers.tolist()


def test_a_missing_shard_is_named_and_stops_the_merge(
    folder: RunFolder, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.shard_file(1).unlink()
    folder.benchmark_file.unlink()
    assert dtb("merge", folder.path) == 2
    error = capsys.readouterr().err
    assert "lacks shard-00001.h5" in error
    assert "allow_missing=true" in error
    assert not folder.benchmark_file.exists()


def test_a_merge_told_to_goes_on_without_a_missing_shard(folder: RunFolder, dtb: Dtb) -> None:
    folder.shard_file(1).unlink()
    assert dtb("merge", folder.path, "allow_missing=true") == 0
    with Benchmark(folder.benchmark_file) as benchmark:
        assert benchmark.numbers.tolist() == [0]


def test_a_merge_told_to_takes_finished_runs_of_open_shards_and_lists_failures(
    tmp_path: Path, generate: Dtb, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    train = workers.train

    def failing(network: Any, *rest: Any, **options: Any) -> Any:
        if network.genotype.key == benchmark_keys[1]:
            raise RuntimeError("out of luck")
        return train(network, *rest, **options)

    dtb("plan", tmp_path, "images.num_valid=1300", "space.num_genotypes=2")
    benchmark_keys = [
        workers.Genotype.parse(run.genotype).key for run in RunFolder(tmp_path).plan()
    ]
    monkeypatch.setattr(workers, "train", failing)
    assert dtb("generate", tmp_path, "cluster=serial", "cluster.max_attempts=2") == 1
    assert not folder.shard_files()
    assert dtb("merge", tmp_path) == 2
    assert dtb("merge", tmp_path, "allow_missing=true") == 0
    with Benchmark(folder.benchmark_file) as benchmark:
        assert benchmark.numbers.tolist() == [0]
        (failure,) = benchmark.failures
        assert (failure.number, failure.attempts) == (1, 2)
        assert "out of luck" in failure.message
    assert not list(folder.path.rglob("partial*"))


def test_nothing_finished_is_nothing_to_merge(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path)
    assert dtb("merge", tmp_path, "allow_missing=true") == 2
    assert "no finished run" in capsys.readouterr().err


def test_a_second_copy_of_a_shard_is_refused(
    folder: RunFolder, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(folder.shard_file(0), folder.shard_file(7))
    assert dtb("merge", folder.path) == 2
    assert "shard-00007.h5 is not a shard of" in capsys.readouterr().err


@pytest.mark.parametrize("limit", [2_000, 20_000, 60_000])
def test_a_merge_on_a_full_disk_leaves_the_benchmark_as_it_was(
    limit: int, folder: RunFolder, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.path.glob("*.h5")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        assert dtb("merge", folder.path) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written to" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.path.glob("*.h5")} == before
    assert not list(folder.path.glob(".*writing"))
    assert dtb("merge", folder.path) == 0


def test_volumes_hold_the_states_apart_from_the_index(folder: RunFolder, dtb: Dtb) -> None:
    assert dtb("merge", folder.path, "volume_size=1e9") == 0
    assert dtb("merge", folder.path, "volume_size=1") == 0
    first, second = sorted(folder.path.glob("states-*.h5"))
    second.unlink()
    assert first.name.endswith("-00000.h5")
    with Benchmark(folder.benchmark_file) as benchmark:
        assert benchmark.array("test_accuracy", epoch=-1).count() == 2
        assert benchmark.run(0).state(epoch=0)
        with pytest.raises(MissingVolumeError, match=second.name):
            benchmark.run(1).state(epoch=0)


def test_what_a_killed_writer_left_is_removed(folder: RunFolder, dtb: Dtb) -> None:
    left = [
        folder.path / ".dtb.h5.0123456789abcdef.writing",
        folder.shards_folder / ".shard-00001.h5.0123456789abcdef.writing",
        folder.path / "states-0123456789ab-00000.h5",
    ]
    for file in left:
        file.write_bytes(b"half")
    assert dtb("merge", folder.path) == 0
    assert not [file for file in left if file.exists()]
    assert dtb("verify", folder.benchmark_file) == 0
