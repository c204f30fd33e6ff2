"""A person's own score, from its module to its rank."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from on_ray import dtb_on_ray
from torch import Tensor, nn

from dtb_builder import Benchmark, score_states
from dtb_builder.cli import main
from dtb_builder.errors import ScoreError, StateNotKeptError
from dtb_builder.network.network import Network
from dtb_builder.scores.names import RANKED_BESIDE, SCORES
from dtb_builder.scores.own import own_score, training_copy
from dtb_builder.stages.ranking.population import populations_of
from dtb_builder.stages.scoring import own as own_stage
from dtb_builder.stages.scoring.table import ScoreTable, read_scores, write_scores

Dtb = Callable[..., int]
QUICK = ("num_images=8", "num_reference=null", "scores=[wot,num_parameters]", "cluster=serial")
NUM_STATES = 12

CODES = """
import torch

def codes(network, images, labels):
    kernel = torch.zeros(len(images), len(images))
    def hook(_module, maps, _output):
        fires = (maps[0].view(len(images), -1) > 0).float()
        kernel.add_(fires @ fires.T + (1 - fires) @ (1 - fires).T)
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_hook(hook)
    network(images)
    return torch.linalg.slogdet(kernel.double()).logabsdet
"""


@pytest.fixture(scope="module")
def bench(scored: Path) -> Iterator[Benchmark]:
    with Benchmark(scored) as bench:
        yield bench


@pytest.fixture(scope="module")
def scored(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark with scores of DTB's own beside it; not to be written to."""
    file = Path(shutil.copy(finished / "dtb.h5", tmp_path_factory.mktemp("scored")))
    assert main(["score", str(file), *QUICK]) == 0
    return file


@pytest.fixture
def file(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("dtb.h5", "scores.parquet"):
        shutil.copy(scored.with_name(name), tmp_path)
    return tmp_path / "dtb.h5"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module of this text; gives its name. What a test imports is forgotten at its end."""
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = f"mine_{tmp_path.name}"

    def write(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        return name

    yield write
    sys.modules.pop(name, None)


def rows_of(file: Path) -> list[Any]:
    return list(read_scores(file.with_name("scores.parquet")).rows)


def without_seconds(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.endswith("seconds")}


def test_a_hook_written_with_view_gives_our_wot(
    file: Path, module: Callable[[str], str], dtb: Dtb, bench: Benchmark
) -> None:
    before = rows_of(file)
    assert dtb("score", file, *QUICK, "--score", f"{module(CODES)}:codes") == 0
    after = rows_of(file)
    assert [{k: row[k] for k in before[0]} for row in after] == before  # what it had, it keeps
    close = [row["codes"] == pytest.approx(row["wot"], rel=1e-12) for row in after]
    assert sum(close) >= NUM_STATES - 2  # the layout moves a code now and then
    assert all(row["codes_seconds"] > 0 for row in after)


def test_a_score_is_ranked_beside_the_others(
    file: Path, module: Callable[[str], str], dtb: Dtb, bench: Benchmark
) -> None:
    text = "def size(network, *_):\n    return sum(p.numel() for p in network.parameters())"
    assert dtb("score", file, *QUICK, "--score", f"{module(text)}:size") == 0
    assert dtb("rank", file, "--resamples", 5) == 0
    ranked = json.loads(file.with_name("rank.json").read_text())["ranked"]
    taus = {row["score"]: row["tau"]["value"] for row in ranked if row["moment"] == "epoch 0"}
    assert taus["size"] == taus["num_parameters"]
    table = read_scores(file.with_name("scores.parquet"))
    for population in populations_of(bench, table, accuracy="test_accuracy"):
        assert population.scores.keys() <= {*SCORES, *RANKED_BESIDE, "size"}


def test_rows_that_lack_a_score_of_their_file_get_it(
    file: Path, module: Callable[[str], str], dtb: Dtb
) -> None:
    text = "def size(network, *_):\n    return sum(p.numel() for p in network.parameters())"
    score = ("score", file, *QUICK, "--score", f"{module(text)}:size")
    assert dtb(*score) == 0
    table = read_scores(file.with_name("scores.parquet"))
    rows = [{**row, "size": row["size"] if row["run"] else None} for row in table.rows]
    write_scores(file.with_name("scores.parquet"), ScoreTable(table.about, rows))  # as in a union
    assert dtb(*score) == 0
    assert [row["size"] for row in rows_of(file)] == [row["size"] for row in table.rows]


def test_scores_come_one_after_the_other_and_changed_code_scores_again(
    file: Path, module: Callable[[str], str], dtb: Dtb
) -> None:
    name = module("def one(*_):\n    return 1\ndef two(*_):\n    return 2")
    assert dtb("score", file, *QUICK, "--score", f"{name}:one") == 0
    assert dtb("score", file, *QUICK, "--score", f"{name}:two") == 0
    assert {(row["one"], row["two"]) for row in rows_of(file)} == {(1, 2)}
    module("def two(*_):\n    return 3")
    assert dtb("score", file, *QUICK, "--score", f"{name}:two") == 0
    assert {(row["one"], row["two"]) for row in rows_of(file)} == {(1, 3)}
    stamp = file.with_name("scores.parquet").stat().st_mtime_ns
    assert dtb("score", file, *QUICK) == 0
    assert file.with_name("scores.parquet").stat().st_mtime_ns == stamp


def test_a_stopped_scoring_goes_on_with_the_states_that_are_left(
    file: Path, module: Callable[[str], str], dtb: Dtb
) -> None:
    text = """
from pathlib import Path
def counted(network, images, labels):
    with open("calls", "a") as file:
        file.write(".")
    if Path("calls").stat().st_size == 5 and not Path("stopped").exists():
        Path("stopped").touch()
        raise KeyboardInterrupt
    return 1
"""
    command = ("score", file, *QUICK, "--score", f"{module(text)}:counted")
    assert dtb(*command) == 130
    assert dtb(*command) == 0
    assert Path("calls").stat().st_size == NUM_STATES + 1
    assert {row["counted"] for row in rows_of(file)} == {1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return 1 / 0", r"ZeroDivisionError: division by zero \(mine_.*\.py:3\)"),
        ("return float('nan')", "it is nan"),
        ("return None", "TypeError"),
        ("return torch.rand(())", "draws from the global generator of torch"),
        ("return np.random.rand()", "draws from the global generator of numpy.random"),
        (
            "next(network.parameters()).data.add_(1); return 1",
            "changes the parameter stem.0.weight",
        ),
    ],
)
def test_what_a_score_must_not_do_is_a_recorded_failure(
    body: str, reason: str, file: Path, module: Callable[[str], str], dtb: Dtb, bench: Benchmark
) -> None:
    network = bench.run(0).network(epoch=0)
    images, labels = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    text = f"import torch, numpy as np\ndef bad(network, images, labels):\n    {body}\n"
    score = own_stage.load_score(own_stage.named_score(f"{module(text)}:bad", Path.cwd()))
    before = repr(torch.get_rng_state().tolist()), repr(np.random.get_state())  # noqa: NPY002
    with pytest.raises(ScoreError, match=reason):
        own_score(score, network, images, labels)
    assert before == (repr(torch.get_rng_state().tolist()), repr(np.random.get_state()))  # noqa: NPY002


def test_failures_are_recorded_and_tried_again(
    file: Path, module: Callable[[str], str], dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
from pathlib import Path
def late(network, images, labels):
    if not Path("ready").exists():
        raise ValueError("not yet")
    return 1
"""
    command = ("score", file, *QUICK, "--score", f"{module(text)}:late")
    assert dtb(*command) == 1
    assert 'the first: {"late": "ScoreError: ValueError: not yet' in capsys.readouterr().out
    assert all(row["wot"] is not None and row["late"] is None for row in rows_of(file))
    Path("ready").touch()
    assert dtb(*command) == 1  # recorded
    assert dtb(*command, "retry=failed") == 0
    assert all(row["wot"] is not None and row["late"] == 1 for row in rows_of(file))


def test_a_state_that_cannot_be_read_keeps_the_scores_that_it_has(
    file: Path, module: Callable[[str], str], dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module("def one(*_):\n    return 1\ndef two(*_):\n    return 2")
    assert dtb("score", file, *QUICK, "--score", f"{name}:one") == 0

    def lost(*_: object) -> None:
        raise RuntimeError(f"{file} is damaged")

    monkeypatch.setattr("dtb_builder.stages.scoring.sources._Networks.at", lost)
    own = ("--score", f"{name}:one", "--score", f"{name}:two")
    assert dtb("score", file, *QUICK, *own) == 1
    assert all(row["wot"] is not None for row in rows_of(file))
    assert {(row["one"], row["two"]) for row in rows_of(file)} == {(1, None)}
    assert {row["errors"] for row in rows_of(file)} == {
        '{"state": "RuntimeError: dtb.h5 is damaged"}'
    }


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere:score", "ModuleNotFoundError"),
        ("{}:nothing", "AttributeError"),
        ("{}:number", "is no function"),
        ("{}:wot", "no score of yours can be called 'wot'"),
        ("nobody", "must be as in mymodule:my_score"),
    ],
)
def test_a_score_that_is_not_there_is_refused(
    reference: str,
    message: str,
    file: Path,
    module: Callable[[str], str],
    dtb: Dtb,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = module("number = 3\ndef wot(*_):\n    return 1")
    assert dtb("score", file, *QUICK, "--score", reference.format(name)) == 2
    assert message in capsys.readouterr().err


def test_an_entry_point_names_a_score(
    file: Path, module: Callable[[str], str], dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("mine", f"{module('def f(*_): return 4')}:f", own_stage.GROUP)
    monkeypatch.setattr(own_stage, "entry_points", lambda **_: [point])
    assert dtb("score", file, *QUICK, "--score", "mine") == 0
    assert {row["mine"] for row in rows_of(file)} == {4}


def test_the_network_of_a_score_gives_logits_alone_in_training_mode() -> None:
    from dtb_builder import NAMED
    from dtb_builder.network import NetworkSpec

    spec = NetworkSpec(
        channels=2, layers=3, num_classes=3, input_channels=3, image_size=32, auxiliary=True
    )
    network = Network(NAMED["DARTS_V2"], spec)
    network.set_drop_path(0.9)
    copied = training_copy(network.eval())
    images = torch.randn(4, 3, 32, 32)
    logits = copied(images)
    assert logits.shape == (4, 3)
    assert torch.equal(copied(images), logits)  # no drop-path
    assert all(module.training for module in copied.modules())
    assert network.auxiliary_head is not None


def test_in_python_a_table_has_the_values_of_the_command(
    file: Path, module: Callable[[str], str], dtb: Dtb, bench: Benchmark
) -> None:
    name = f"{module(CODES)}:codes"
    assert dtb("score", file, *QUICK, "--score", name) == 0
    score = own_stage.load_score(own_stage.named_score(name, Path.cwd()))
    threads = torch.get_num_threads()
    table = score_states(bench, {"mine": score}, epochs=[0], steps=[1], num_images=8)
    assert torch.get_num_threads() == threads
    stored = {(row["run"], row["step"]): row["codes"] for row in rows_of(file)}
    assert table["step"].tolist() == [0, 1, 0, 1]
    found = zip(table["run"], table["step"], table["mine"], strict=True)
    assert all(stored[run, step] == value for run, step, value in found)


def test_in_python_what_fails_for_some_is_missing_and_for_all_an_error(bench: Benchmark) -> None:
    first = int(bench.num_parameters[0])

    def picky(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        size = sum(parameter.numel() for parameter in network.parameters())
        return float("nan") if size == first else 1.0

    table = score_states(bench, {"picky": picky}, epochs=[0], num_images=8)
    assert table["picky"].isna().tolist() == table["errors"].notna().tolist() == [True, False]
    with pytest.raises(ScoreError, match="bad of every state: ScoreError: it is nan"):
        score_states(bench, {"bad": lambda *_: float("nan")}, epochs=[0], runs=[0], num_images=8)
    with pytest.raises(
        StateNotKeptError, match="no state of step 2 was kept; kept are 0 to 1, 3, 5"
    ):
        score_states(bench, {"bad": lambda *_: 1.0}, steps=[2])


@pytest.mark.ray
def test_ray_gives_the_same_scores_as_no_ray_and_finds_own_ones_in_the_current_folder(
    file: Path, module: Callable[[str], str], dtb: Dtb
) -> None:
    name, table = f"{module(CODES)}:codes", file.with_name("scores.parquet")
    table.unlink()
    done = dtb_on_ray("score", file, *QUICK[:3], "cluster.num_cpus=2", "--score", name)
    assert done.returncode == 0, done.stderr
    on_ray = [without_seconds(row) for row in rows_of(file)]
    assert len(on_ray) == NUM_STATES
    assert all(row["codes"] is not None for row in on_ray)
    table.unlink()
    assert dtb("score", file, *QUICK, "--score", name) == 0
    assert [without_seconds(row) for row in rows_of(file)] == on_ray
