"""Several benchmarks of one recipe made into one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from altering import alter

from dtb_builder import Benchmark, Run
from dtb_builder.errors import ContradictionError, PlanMismatchError
from dtb_builder.record import METRICS
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.same_study import check_same_study
from dtb_builder.stages.generation.unite import unite

Dtb = Callable[..., int]


def everything(run: Run) -> list[Any]:
    found = [run.genotype, run.seed, run.order_seed, run.crc32c, run.environment(epoch=0)]
    found += [run.curve(name).tolist() for name in METRICS]
    found += [run.training_state(step=moment.step).values.tobytes() for moment in run.moments]
    return found


@pytest.fixture(scope="module")
def files(finished: Path, other_study: Path) -> list[Path]:
    """A benchmark of two runs, and the shards of a study of two others."""
    return [finished / "dtb.h5", *RunFolder(other_study).shard_files()]


@pytest.mark.parametrize("volumes", [(), ("--volume-size", "1")], ids=["one file", "volumes"])
def test_a_union_has_every_run_once_under_a_number_of_its_own(
    volumes: tuple[str, ...], files: list[Path], tmp_path: Path, dtb: Dtb
) -> None:
    two, into = tmp_path / "two.h5", tmp_path / "all.h5"
    assert dtb("unite", files[2], files[0], "--into", two, *volumes) == 0
    assert dtb("unite", *files, two, "--into", into, *volumes) == 0
    assert dtb("verify", into) == 0
    with Benchmark(into) as united:
        assert united.numbers.tolist() == [0, 1, 2, 3]
        runs = iter(united)
        for file in files:
            with Benchmark(file) as benchmark:
                for run in benchmark:
                    assert everything(next(runs)) == everything(run)
        plans = united.provenance["plans"]
        assert [plan["space"]["seed"] for plan in plans] == [0, 7]
        assert {run.origin["adopted_from"] for run in united} == {
            plan["provenance_sha256"] for plan in plans
        }
    assert dtb("report", into, "--into", tmp_path / "report.html") == 0


def test_a_union_may_be_of_more_files_than_may_be_open_at_once(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtb_builder.dataset.copying._MOST_OPEN", 2)
    copy = Path(shutil.copy(files[0], tmp_path / "copy.h5"))
    assert len(list(unite([*files, copy], tmp_path / "all.h5"))) == 4


def test_a_run_with_other_bits_is_named_and_refused_or_left_out(
    files: list[Path], tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    other, into = tmp_path / "other.h5", tmp_path / "all.h5"
    shutil.copy(files[0], other)
    alter(other, "metrics/train_seconds", (0, 1), 9.0, of_row=True)
    assert list(unite([files[0], other], tmp_path / "seconds.h5"))
    alter(other, "runs/state_crc32c", (1, 2), 7, of_row=True)
    with pytest.raises(ContradictionError, match=r"state from epoch 2 on differs between run 1 of"):
        list(unite([files[0], other], into))
    assert not into.exists()
    assert dtb("unite", files[0], other, "--into", into, "--keep", "first") == 0
    assert "2 of 4 runs in 2 files are different" in capsys.readouterr().out
    with Benchmark(into) as united, Benchmark(files[0]) as first:
        assert [everything(run) for run in united] == [everything(run) for run in first]


def test_a_file_of_fewer_states_wants_the_others_cut_as_well(
    files: list[Path], tmp_path: Path, dtb: Dtb
) -> None:
    cut = [tmp_path / f"{i}.h5" for i in range(2)]
    for file, into in zip(files, cut, strict=False):
        assert dtb("subset", file, "--states", "none", "--into", into) == 0
    with pytest.raises(PlanMismatchError, match="other moments: dtb subset"):
        list(unite([files[0], cut[1]], tmp_path / "all.h5"))
    assert dtb("unite", *cut, "--into", tmp_path / "all.h5") == 0
    assert dtb("verify", tmp_path / "all.h5") == 0


def test_what_was_trained_otherwise_is_refused_setting_by_setting(finished: Path) -> None:
    wanted = json.loads(RunFolder(finished).provenance)
    found = json.loads(RunFolder(finished).provenance)
    found["config"] |= {"seeds": [3], "shard_size": 9}
    found["config"]["states"] |= {"epochs": [0], "key_every": 1}
    check_same_study(wanted, found, where="B.h5", user="A.h5")
    found["config"]["recipe"] |= {"num_epochs": 8, "momentum": 0.5}
    found["images"]["sha256"] = "other"
    with pytest.raises(PlanMismatchError) as refused:
        check_same_study(wanted, found, where="B.h5", user="A.h5")
    text = str(refused.value)
    assert "the runs of B.h5 were not trained with the settings of A.h5" in text
    assert "recipe.momentum: 0.9 wanted, 0.5 there" in text
    assert "images.sha256" in text
    assert "dtb branch continues from stored states" in text


def test_subset_takes_numbers_and_a_list_of_genotypes(
    finished: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    with Benchmark(finished / "dtb.h5") as benchmark:
        (tmp_path / "mine.txt").write_text(f"{benchmark.run(1).genotype}\nDARTS_V2\n")
    command = ("subset", finished / "dtb.h5", "--genotypes", tmp_path / "mine.txt")
    assert dtb(*command, "--runs", "0-99", "--into", tmp_path / "one.h5") == 0
    assert "1 of the 2 genotypes" in capsys.readouterr().out
    with Benchmark(tmp_path / "one.h5") as cut:
        assert cut.numbers.tolist() == [1]
    assert dtb(*command, "--runs", "0", "--into", tmp_path / "none.h5") == 2
    assert "none of these runs" in capsys.readouterr().err
