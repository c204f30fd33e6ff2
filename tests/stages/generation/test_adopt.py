"""Plans that take over the runs of finished studies, or train them again to keep more states."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from altering import alter

from dtb_builder import Benchmark
from dtb_builder.cli import main
from dtb_builder.dataset.identity import identity
from dtb_builder.dataset.kept import Kept
from dtb_builder.record import METRICS
from dtb_builder.stages.generation import worker as workers
from dtb_builder.stages.generation.adopt import adopt
from dtb_builder.stages.generation.run_folder import RunFolder

Dtb = Callable[..., int]
Content = Callable[[Path], dict[Any, Any]]
ALIKE = (
    *("images=digits", "images.num_valid=1300", "network.channels=2", "network.layers=2"),
    *("recipe.num_epochs=3", "space.num_genotypes=2", "cluster=serial"),
)
"""The deciding config of the fixture `finished`, and its genotypes."""

MORE = (*ALIKE, "seeds=[0,1]", "shard_size=3", "states.key_every=3", "states.steps=[5]")
"""A study of more runs, in other shards, with fewer states of which more are differences."""


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The larger study, trained at once."""
    folder = tmp_path_factory.mktemp("at_once")
    assert main(["generate", str(folder), *MORE]) == 0
    assert main(["merge", str(folder)]) == 0
    return folder / "dtb.h5"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that grows by each training that begins."""
    found: list[Any] = []
    train = workers.train_in_turns

    def noting(*arguments: Any, **options: Any) -> Any:
        found.append(options.get("resume"))
        return train(*arguments, **options)

    monkeypatch.setattr(workers, "train_in_turns", noting)
    return found


def test_an_extended_study_is_the_one_trained_at_once(
    finished: Path,
    at_once: Path,
    tmp_path: Path,
    dtb: Dtb,
    content: Content,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dtb("plan", tmp_path, *MORE, "--adopt", finished) == 0
    assert "2 runs need no training, 2 do" in capsys.readouterr().out
    assert dtb("generate", tmp_path, "--adopt", finished, "cluster=serial") == 0
    assert "2 runs adopted" in capsys.readouterr().out
    assert trained == [None, None]
    assert dtb("generate", tmp_path, "--adopt", finished, "cluster=serial") == 0
    assert len(trained) == 2
    assert dtb("merge", tmp_path) == 0
    assert dtb("verify", tmp_path / "dtb.h5") == 0
    assert content(tmp_path / "dtb.h5") == content(at_once)
    with Benchmark(tmp_path / "dtb.h5") as mine, Benchmark(at_once) as other:
        assert mine.moments == other.moments
        assert [run.crc32c for run in mine] != [run.crc32c for run in other]  # times differ
        with Benchmark(finished / "dtb.h5") as old:
            origins = [run.origin.get("adopted_from") for run in mine]
            assert origins == [old.run(0).provenance_sha256, None] * 2
            for name in METRICS:
                curve = old.run(1).curve(name).tolist()
                assert mine.run(2).curve(name).tolist() == curve


def test_runs_without_states_are_adopted_by_a_study_that_keeps_none(
    finished: Path, tmp_path: Path, dtb: Dtb
) -> None:
    old, new = tmp_path / "old.h5", tmp_path / "new"
    assert dtb("subset", finished / "dtb.h5", "--states", "none", "--into", old) == 0
    none = ("states=none", "states.steps=[]", "states.momentum=none")
    assert dtb("generate", new, *ALIKE, *none, "--adopt", old) == 0
    assert dtb("merge", new) == 0
    assert dtb("verify", new / "dtb.h5") == 0
    with Benchmark(old) as before, Benchmark(new / "dtb.h5") as after:
        assert [run.tensors for run in after] == [run.tensors for run in before]


def test_an_adoption_that_was_stopped_goes_on_with_what_is_left(
    finished: Path,
    at_once: Path,
    tmp_path: Path,
    dtb: Dtb,
    content: Content,
    trained: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    frame, calls = Kept.frame, 0

    def stopping(*arguments: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 7:  # in the midst of the second run
            raise KeyboardInterrupt
        return frame(*arguments)

    command = ("generate", tmp_path, *MORE, "seeds=[0]", "--adopt", finished / "dtb.h5")
    with monkeypatch.context() as patch:
        patch.setattr(Kept, "frame", stopping)
        assert dtb(*command) == 130
    folder = RunFolder(tmp_path)
    first, second = folder.plan()
    assert folder.journal_file(first).exists()
    assert not folder.journal_file(second).exists()
    capsys.readouterr()
    assert dtb(*command) == 0
    assert "1 runs adopted" in capsys.readouterr().out
    assert trained == []
    assert dtb("merge", tmp_path) == 0
    wanted = {key: value for key, value in content(at_once).items() if key[0] % 2 == 0}
    found = content(tmp_path / "dtb.h5")
    assert {(2 * key[0], *key[1:]): value for key, value in found.items()} == wanted


def test_an_adopted_journal_that_is_damaged_is_trained_again(
    finished: Path, at_once: Path, tmp_path: Path, dtb: Dtb, content: Content, trained: list[Any]
) -> None:
    assert dtb("plan", tmp_path, *MORE, "seeds=[0]") == 0
    folder = RunFolder(tmp_path)
    _, second = adopt(folder, [finished])
    journal = folder.journal_file(second)
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data)
    assert dtb("generate", tmp_path, "cluster=serial") == 0
    assert trained == [None]
    assert dtb("merge", tmp_path) == 0
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        assert ["adopted_from" in run.origin for run in benchmark] == [True, False]
    wanted = {key[1:]: value for key, value in content(at_once).items() if key[0] == 2}
    found = {key[1:]: v for key, v in content(tmp_path / "dtb.h5").items() if key[0] == 1}
    assert found == wanted


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("recipe.momentum=0.5", "images.split_seed=1"), "recipe.momentum: 0.5 wanted, 0.9 there"),
        (("recipe.num_epochs=4",), "the learning rate's cosine spans all epochs"),
        (("states.steps=[1,2,4]",), "no states are kept after steps 2, 4"),
        (("states.momentum=all",), "no momentum is kept after epochs 1, 2, 3"),
    ],
)
def test_what_cannot_be_adopted_is_refused_before_anything_is_planned(
    settings: tuple[str, ...],
    said: str,
    finished: Path,
    tmp_path: Path,
    dtb: Dtb,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "new"
    assert dtb("generate", folder, "--adopt", finished, *MORE, *settings) == 2
    error = capsys.readouterr().err
    assert said in error
    assert ("--widen" in error) == settings[0].startswith("states.")
    assert not folder.exists()


def test_a_folder_without_a_finished_shard_has_nothing_to_adopt(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("generate", tmp_path / "new", *MORE, "--adopt", tmp_path) == 2
    assert "neither a finished shard nor dtb.h5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("recipe.num_epochs=8", "dtb branch continues from stored states"),
        ("seeds=[0,1]", "takes over the runs of both"),
        ("states.steps=[2]", "trains them again, to the same bits"),
    ],
)
def test_another_setting_of_a_planned_folder_is_refused_with_the_way_to_go(
    setting: str, said: str, finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", finished, setting) == 2
    assert said in capsys.readouterr().err


WIDER = (*ALIKE, "states.momentum=all", "states.steps=[1,5,7]", "shard_size=2")


def test_more_states_are_kept_by_training_again_to_the_same_bits(
    finished: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("generate", tmp_path, *WIDER, "--widen", finished) == 0
    assert "2 runs are known" in capsys.readouterr().out
    assert dtb("merge", tmp_path) == 0
    assert dtb("verify", tmp_path / "dtb.h5", "--deep") == 0
    with Benchmark(tmp_path / "dtb.h5") as wide, Benchmark(finished / "dtb.h5") as old:
        for run in wide:
            other = old.run(run.number)
            assert run.momentum_epochs == (1, 2, 3)
            assert run.state_steps == (1, 5, 7)
            for name in METRICS:
                assert run.curve(name).tolist() == other.curve(name).tolist(), name
            for moment in other.moments:
                mine, its = (r.training_state(step=moment.step) for r in (run, other))
                assert mine.values.tobytes() == its.values.tobytes()
            assert run.origin == {"kind": "trained", "adopted_from": other.provenance_sha256}


def test_a_run_that_has_other_bits_when_it_is_trained_again_stops_everything(
    finished: Path,
    tmp_path: Path,
    dtb: Dtb,
    trained: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = tmp_path / "old.h5"
    shutil.copy(finished / "dtb.h5", old)
    alter(old, "runs/state_crc32c", (0, 2), 7, of_row=True)
    new = tmp_path / "new"
    assert dtb("generate", new, *WIDER, "--widen", old) == 2
    error = capsys.readouterr().err
    assert "run 0 has another state after epoch 2 than in" in error
    assert "trained there on an equal machine" in error
    assert not list(new.rglob("*.failures.json"))
    assert dtb("generate", new, "cluster=serial") == 0  # for itself, it begins again
    assert trained == [None, None, None]


def test_branched_runs_of_other_parents_are_other_runs() -> None:
    parent = {"kind": "branched", "epoch": 2, "provenance_sha256": "a", "crc32c": 1, "run": 0}
    one = identity(bytes(32), 0, 0, parent)
    assert one == identity(bytes(32), 0, 0, {**parent, "run": 5, "adopted_from": "b"})
    assert one != identity(bytes(32), 0, 0, {**parent, "crc32c": 2})
    assert one != identity(bytes(32), 0, 0, {"kind": "trained"})
