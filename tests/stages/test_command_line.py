import contextlib
import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import dtb_builder
from dtb_builder import Benchmark
from dtb_builder.record import METRICS
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.status import status
from dtb_builder.stages.settings.config import Config
from dtb_builder.stages.settings.launch import LaunchConfig

Dtb = Callable[..., int]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("nope=1", "there is no setting nope\n"),
        (
            "recipe.num_epoch=1",
            "there is no setting recipe.num_epoch: did you mean recipe.num_epochs?",
        ),
        ("space=mutations", "space.parent must be given: space.parent=VALUE"),
        ("+nope=1", "nope"),
        ("images=nope", "fashion_mnist"),
        ("experiment=nope", "quickstart"),
        ("recipe.num_epochs=many", "recipe.num_epochs must be int, got 'many'"),
        ("recipe.num_epochs=0", "num_epochs must be a whole number >= 1, got 0"),
        ("recipe.learning_rate=true", "recipe.learning_rate must be float"),
        ("compute.device=tpu", "compute.device must be 'cpu' or 'cuda', got 'tpu'"),
        ("compute.threads=0", "compute.threads must be at least 1, got 0"),
        ("states.epochs=[9]", "states.epochs must be in 0..2, or -1, got [9]"),
        ("seeds=[1,1]", "seeds must differ"),
        ("shard_size=0", "shard_size must be at least 1, got 0"),
        ("space.num_genotypes=0", "space.num_genotypes must be at least 1, got 0"),
        ("space=file", "file"),
        ("space.kind=mutations", "space.parent"),
        ("images.num_valid=9999", "num_valid must be in 1..1437, got 9999"),
        ("images.num_train=9999", "images.num_train must be in 1..1238, got 9999"),
        ("images.num_train=1", "at least 2 images must be trained on"),
        ("recipe.auxiliary_weight=0.4", "recipe.auxiliary_weight needs network.auxiliary"),
        ("compute.kernels=on recipe.precision=bfloat16", "compute.kernels=on does not support"),
        ("network.auxiliary=true", "images of 29 to 40 pixels would fit"),
        ("'unclosed", "unclosed"),
        ("images.root=/a=b", "needs quotes"),
        ("space.names=DARTS_V2", "space.names must be a list of str, got 'DARTS_V2'"),
    ],
)
def test_a_bad_setting_is_refused_and_explained(
    setting: str, message: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path / "run", *setting.split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("cluster.address=ray://host:10001", "must not be a Ray Client address"),
        ("cluster.gpus_per_run=0", "cluster.gpus_per_run must be above 0 and at most 1"),
        ("cluster.gpus_per_run=2", "a run trains on one GPU, got 2"),
        ("cluster.time_limit=0", "cluster.time_limit must be above 0 seconds"),
        ("cluster.max_attempts=0", "cluster.max_attempts must be at least 1"),
        ("cluster.num_cpus=0", "cluster.num_cpus must be at least 1"),
        ("cluster.max_in_flight=0", "cluster.max_in_flight must be at least 1"),
        ("retry=all", "retry must be 'failed' or null, got 'all'"),
        ("volume_size=0", "volume_size must be at least 1 byte"),
        ("volume_size=1.5", "volume_size must be int or null, got 1.5"),
    ],
)
def test_a_bad_launch_setting_is_refused_before_anything_is_planned(
    setting: str, message: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("generate", tmp_path / "run", setting) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["status", "merge"])
def test_a_folder_without_a_plan_is_refused(
    command: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb(command, tmp_path) == 2
    assert "is not planned" in capsys.readouterr().err


def test_settings_may_stand_before_and_after_an_option(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path, "states=ends", "--show", "recipe.num_epochs=7") == 0
    shown = capsys.readouterr().out
    assert "num_epochs: 7" in shown
    assert "- -1" in shown
    assert not list(tmp_path.iterdir())


def test_a_planned_folder_shows_its_own_settings(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path, "recipe.num_epochs=7") == 0
    capsys.readouterr()
    assert dtb("plan", tmp_path, "--show", "cluster=serial") == 0
    shown = capsys.readouterr().out
    assert "num_epochs: 7" in shown
    assert "engine: serial" in shown


def test_the_version_is_told(dtb: Dtb, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        dtb("--version")
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"dtb {dtb_builder.__version__}\n"


def test_an_unknown_option_is_refused(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        dtb("plan", tmp_path, "--epochs", "3")
    assert stop.value.code == 2
    assert "takes no '--epochs'" in capsys.readouterr().err


def test_merge_refuses_settings_of_the_data(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("merge", finished, "recipe.num_epochs=3") == 2
    assert "recipe.num_epochs=3" in capsys.readouterr().err


def test_every_setting_belongs_to_the_data_or_to_the_launch(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    dtb("plan", tmp_path, "--show")
    shown = {
        line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line[0] > "-"
    }
    assert shown == {*Config.__dataclass_fields__, *LaunchConfig.__dataclass_fields__}


def test_help_shows_a_newcomer_the_way(dtb: Dtb, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        dtb("--help")
    shown = capsys.readouterr().out
    for word in ("plan", "generate", "status", "merge", "info", "query", "verify", "exit codes"):
        assert word in shown


def test_status_counts_and_checks(
    finished: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("status", finished, "--check") == 0
    assert "2 of 2 finished" in capsys.readouterr().out
    dtb("plan", tmp_path)
    assert dtb("status", tmp_path) == 0
    assert dtb("status", tmp_path, "--check") == 1
    capsys.readouterr()
    dtb("status", finished, "--json")
    assert json.loads(capsys.readouterr().out)["num_epochs"] == 6  # without the initialisations


def test_status_tells_a_benchmark_from_one_that_lacks_what_is_finished(
    finished: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(shutil.copytree(finished, tmp_path / "run"))
    size = status(folder).num_bytes
    folder.shard_file(1).touch()  # as copying does
    assert status(folder).merged == "yes"
    shard = folder.shard_file(1).rename(tmp_path / "shard.h5")
    assert dtb("merge", folder.path, "allow_missing=true") == 0
    assert status(folder).merged == "yes"
    shard.rename(folder.shard_file(1))
    assert status(folder).merged == "stale"
    capsys.readouterr()
    dtb("status", folder.path)
    assert "run dtb merge again" in capsys.readouterr().out
    folder.benchmark_file.write_bytes(b"torn")
    assert status(folder).merged == "damaged"
    folder.benchmark_file.unlink()
    assert status(folder).merged == "no"
    assert status(folder).num_bytes < size


def test_info_names_what_the_benchmark_is_made_of(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("info", finished / "dtb.h5") == 0
    shown = capsys.readouterr().out
    assert "2 cells of 2 channels" in shown
    assert "digits" in shown
    dtb("info", finished / "dtb.h5", "--json")
    assert json.loads(capsys.readouterr().out)["config"]["recipe"]["num_epochs"] == 3


def test_query_prints_the_best_runs_first(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--top", 2, "--by", "test_accuracy", "--epoch", -1)
    assert dtb("query", finished / "dtb.h5", *options) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    column = header.split().index("test_accuracy")
    shown = [float(line.split()[column]) for line in lines]
    assert shown == sorted(shown, reverse=True)
    assert len(shown) == 2


def test_query_prints_the_lowest_losses_first(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("query", finished / "dtb.h5", "--top", 1, "--by", "valid_loss", "--epoch", 1) == 0
    header, line = capsys.readouterr().out.splitlines()
    with Benchmark(finished / "dtb.h5") as benchmark:
        lowest = benchmark.array("valid_loss", epoch=1).min()
    assert float(line.split()[header.split().index("valid_loss")]) == pytest.approx(
        lowest, abs=1e-4
    )


def test_query_takes_one_question_at_a_time(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        dtb("query", finished / "dtb.h5", "--run", 0, "--top", 2)
    assert stop.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_query_shows_a_run_by_number_and_by_genotype(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    with Benchmark(finished / "dtb.h5") as benchmark:
        genotype = str(benchmark.run(1).genotype)
    assert dtb("query", finished / "dtb.h5", "--run", 1) == 0
    by_number = capsys.readouterr().out
    assert dtb("query", finished / "dtb.h5", "--genotype", genotype) == 0
    assert capsys.readouterr().out == by_number
    assert len(by_number.splitlines()) == 2 + 1 + 4


def test_query_writes_every_run_and_epoch_as_csv(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("query", finished / "dtb.h5", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 2 * 4
    assert set(METRICS) < set(rows[0])
    assert rows[0]["train_loss"] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "say which epoch"),
        (("--top", "2", "--epoch", "-1"), "--top and --by must be given together"),
        (("--epoch", "9"), "no epoch 9: epochs are 0 to 3"),
        (("--top", "2", "--by", "accuracy", "--epoch", "0"), "no metric 'accuracy'"),
        (("--run", "5"), "has no run 5"),
        (("--genotype", "Genotype()"), "Genotype"),
        (("--genotype", "DARTS_V1"), "has no run of DARTS_V1; the nearest are:"),
        (("--top", "-2", "--by", "valid_loss", "--epoch", "0"), "--top must be at least 1, got -2"),
        (("--top", "2", "--by", "learning_rate", "--epoch", "1"), "has no better or worse"),
        (("--by", "valid_loss", "--epoch", "0"), "--top and --by must be given together"),
        (("--run", "0", "--epoch", "0"), "leave out --epoch"),
    ],
)
def test_a_query_that_has_no_answer_says_why(
    options: tuple[str, ...],
    message: str,
    finished: Path,
    dtb: Dtb,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dtb("query", finished / "dtb.h5", *options) == 2
    assert message in capsys.readouterr().err


def test_a_key_error_of_the_programme_itself_keeps_its_traceback(
    finished: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def top(*_: object, **__: object) -> None:
        {}["typo_in_code"]

    monkeypatch.setattr(Benchmark, "top", top)
    with pytest.raises(KeyError, match="typo_in_code"):
        dtb("query", finished / "dtb.h5", "--top", "2", "--by", "valid_loss", "--epoch", "0")


@pytest.mark.parametrize("command", ["info", "query", "verify"])
def test_a_file_that_is_not_there_or_not_dtb_is_refused(
    command: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb(command, tmp_path / "missing.h5") == 2
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "text.h5").write_text("not HDF5")
    assert dtb(command, tmp_path / "text.h5") == 2
    assert "is not an HDF5 file" in capsys.readouterr().err


def test_verify_names_a_damaged_state(
    finished: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("verify", finished / "dtb.h5") == 0
    assert "0 damaged" in capsys.readouterr().out
    damaged = tmp_path / "dtb.h5"
    shutil.copy(finished / "dtb.h5", damaged)
    with Benchmark(damaged) as benchmark:
        offset = int(benchmark._store.index.column("moments/offset")[1, 4])
    data = bytearray(damaged.read_bytes())
    data[offset + 40] ^= 1
    damaged.write_bytes(data)
    assert dtb("verify", damaged) == 1
    printed = capsys.readouterr().out
    assert "damaged: run 1 state of epoch 2" in printed
    assert "damaged: run 1 state of epoch 3" in printed  # the difference to it
    assert "2 damaged" in printed


@pytest.mark.parametrize("verb", ["verify", "report", "score", "repair"])
def test_what_reads_no_url_says_so(verb: str, dtb: Dtb, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        dtb(verb, "https://example.org/dtb.h5")
    assert "https://example.org/dtb.h5 is a URL: download it first" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["export", "report", "publish"])
def test_a_disk_that_gives_out_is_named_and_nothing_is_left(
    verb: str,
    finished: Path,
    tmp_path: Path,
    dtb: Dtb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    about = "--name=n --author=a --licence=MIT --url=https://a.b --dry-run"
    to = {"export": "--csv", "report": "--into", "publish": f"{about} --into"}[verb]
    assert dtb(verb, finished / "dtb.h5", *to.split(), tmp_path / "made") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options", [("export", "--csv"), ("export", "--parquet"), ("report", "--into")]
)
def test_no_benchmark_is_written_over(
    options: tuple[str, str],
    finished: Path,
    tmp_path: Path,
    dtb: Dtb,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = Path(shutil.copy(finished / "dtb.h5", tmp_path))
    with pytest.raises(SystemExit) as left:
        dtb(options[0], file, options[1], file)
    assert left.value.code == 2
    assert f"{file} is an HDF5 file: choose another name" in capsys.readouterr().err
    assert file.read_bytes() == (finished / "dtb.h5").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv", ""], "the name is empty"),
        (["--csv", "."], ". is a folder: name a file in it"),
        (["--csv", "x", "--parquet", "./x"], "--parquet and --csv are both x: name two files"),
    ],
)
def test_what_cannot_be_an_output_is_refused(
    arguments: list[str],
    message: str,
    finished: Path,
    dtb: Dtb,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(SystemExit):
        assert dtb("export", finished / "dtb.h5", *arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_table_goes_to_standard_output_or_into_a_pipe(
    finished: Path, tmp_path: Path, dtb: Dtb, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert dtb("export", finished / "dtb.h5", "--csv", "-") == 0
    printed = capfdbinary.readouterr().out
    assert len(printed.splitlines()) == 1 + 2 * 4
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as beside:
        read = beside.submit((tmp_path / "pipe").read_bytes)
        assert dtb("export", finished / "dtb.h5", "--csv", tmp_path / "pipe") == 0
        assert read.result(10) == printed


def test_a_study_to_adopt_is_no_url(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("plan", tmp_path / "run", "--adopt", "https://example.org/dtb.h5") == 2
    assert "https://example.org/dtb.h5 is a URL: download it first" in capsys.readouterr().err


def test_a_ranking_needs_a_stem_not_a_folder(
    finished: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        dtb("rank", finished, "--into", tmp_path)
    assert f"is a folder: name a stem in it, {tmp_path / 'rank'}" in capsys.readouterr().err
