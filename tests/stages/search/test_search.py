import dataclasses
import json
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engines import DyingEngine
from filelock import FileLock

from dtb_builder import Benchmark, Genotype
from dtb_builder.errors import ConfigError
from dtb_builder.network.kernels import Library, find_library
from dtb_builder.scores import input_edges, standardised_input_edges
from dtb_builder.space import sample_uniform
from dtb_builder.stages.ranking.rank import Ranked, Ranking
from dtb_builder.stages.ranking.report import write_ranking
from dtb_builder.stages.search import driver
from dtb_builder.stages.search.config import SearchRule, affordable_rule
from dtb_builder.stages.search.driver import SearchFolder
from dtb_builder.stages.search.worker import Candidate, try_candidate
from dtb_builder.stages.work.lines import append_line, read_lines
from dtb_builder.statistics import Interval

Dtb = Callable[..., int]
TINY = (
    "images.num_valid=1300",
    "network.channels=2",
    "network.layers=2",
    "recipe.num_epochs=1",
    "num_images=8",
    "num_candidates=8",
    "num_random=4",
    "num_children=2",
    "num_parents=2",
    "cluster=serial",
)


def content(folder: Path) -> list[dict[str, Any]]:
    """What was tried, apart from what depends on the clock."""
    lines = read_lines(SearchFolder(folder).candidates_file)
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def pretended(_config: Any, _rule: Any, candidate: Candidate) -> dict[str, Any]:
    """The line of a candidate that nobody builds."""
    scores = {"num_parameters": float(len(candidate.genotype))}
    made = {"scores": scores, "error": None, "steps": 0, "seconds": 0.0}
    return dataclasses.asdict(candidate) | made


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the winner as it is found, to be quicker."""
    monkeypatch.setattr("dtb_builder.stages.search.winner.train_winner", lambda *_: iter(()))
    run = SimpleNamespace(metric=lambda *_, **__: 0.5)
    monkeypatch.setattr("dtb_builder.stages.search.winner.winners_run", lambda *_: run)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that is done; not to be written to."""
    from dtb_builder.cli import main

    folder = tmp_path_factory.mktemp("searched") / "search"
    assert main(["search", str(folder), *TINY]) == 0
    return folder


def test_random_genotypes_come_first_and_then_mutations_of_the_best(searched: Path) -> None:
    lines = content(searched)
    assert [line["index"] for line in lines] == list(range(8))
    assert [line["genotype"] for line in lines[:4]] == [str(sample_uniform(0, i)) for i in range(4)]
    assert [line["parent"] is None for line in lines] == [True] * 4 + [False] * 4
    assert len({line["genotype"] for line in lines}) == 8
    for child in lines[4:]:
        parent = Genotype.parse(lines[child["parent"]]["genotype"])
        genotype = Genotype.parse(child["genotype"])
        edges = zip(
            parent.canonical().normal + parent.canonical().reduce,
            genotype.normal + genotype.reduce,
            strict=True,
        )
        assert sum(one != other for one, other in edges) <= 2  # a node's edges may change places


def test_the_winner_is_the_best_and_is_trained(searched: Path) -> None:
    folder = SearchFolder(searched)
    winner = folder.winner_file.read_text().strip()
    lines = content(searched)
    abilities, units = (
        np.array([line["scores"][name] for line in lines])
        for name in ("distinguishing_ability", "activation_units")
    )
    scores = np.zeros(len(lines))
    for atom in (abilities / 8, np.log(units)):  # of eight images; frozen by the four random ones
        scores += (atom - atom[:4].mean()) / atom[:4].std(ddof=1)
    assert winner == lines[scores.argmax()]["genotype"]
    with Benchmark(folder.run_folder / "dtb.h5") as benchmark:
        (run,) = benchmark
        assert str(run.genotype) == winner
        assert run.state_epochs == (0, 1)


@pytest.mark.usefixtures("untrained")
def test_the_third_atom_counts_on_the_scale_of_the_whole_space(tmp_path: Path, dtb: Dtb) -> None:
    assert dtb("search", tmp_path, *TINY, "rule=das3") == 0
    lines = content(tmp_path)
    scores = np.zeros(len(lines))
    for name, form in (("distinguishing_ability", lambda d: d / 8), ("activation_units", np.log)):
        atom = form(np.array([line["scores"][name] for line in lines]))
        scores += (atom - atom[:4].mean()) / atom[:4].std(ddof=1)
    inputs = [input_edges(Genotype.parse(line["genotype"])) for line in lines]
    scores += standardised_input_edges(inputs)
    assert (
        SearchFolder(tmp_path).winner_file.read_text().strip() == lines[scores.argmax()]["genotype"]
    )


@pytest.mark.usefixtures("untrained")
def test_the_rule_decides_who_wins(tmp_path: Path, dtb: Dtb) -> None:
    assert dtb("search", tmp_path, *TINY, "rule=num_parameters") == 0
    lines = content(tmp_path)
    best = max(lines, key=lambda line: line["scores"]["num_parameters"])
    assert SearchFolder(tmp_path).winner_file.read_text().strip() == best["genotype"]
    parents = sorted(lines[:4], key=lambda line: -line["scores"]["num_parameters"])[:2]
    assert [line["parent"] for line in lines[4:6]] == [parent["index"] for parent in parents]


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("num_lines", [1, 4, 7])
def test_a_stopped_search_goes_on_to_the_same_winner(
    num_lines: int, searched: Path, tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def dying(path: Path, value: dict[str, Any]) -> None:
        nonlocal count
        append_line(path, value)
        count += 1
        if count == num_lines:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(driver, "append_line", dying)
        assert dtb("search", tmp_path, *TINY) == 130
    assert len(content(tmp_path)) == num_lines
    assert dtb("search", tmp_path, *TINY) == 0
    assert content(tmp_path) == content(searched)
    files = [SearchFolder(folder).winner_file for folder in (tmp_path, searched)]
    assert files[0].read_text() == files[1].read_text()


def test_searching_again_tries_nothing(
    searched: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = json.loads((searched / "search.json").read_text())
    del stored["kernels"]  # as before they were settled
    (searched / "search.json").write_text(json.dumps(stored))
    monkeypatch.setattr(driver, "try_candidate", lambda *_: pytest.fail("something was tried"))
    assert dtb("search", searched, *TINY) == 0


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("rule", "at", "steps"),
    [
        ("wot", "step 2", 2),
        ("wot", "epoch 1", 3),
        ("training_speed", "epoch 1", 3),
        ("valid_accuracy", "epoch 1", 3),
    ],
)
def test_a_rule_of_trained_networks_costs_steps(
    rule: str, at: str, steps: int, tmp_path: Path, dtb: Dtb
) -> None:
    settings = (f"rule={rule}", f"at={at}", "num_candidates=3", "num_random=2")
    assert dtb("search", tmp_path, *TINY, *settings) == 0
    lines = content(tmp_path)
    assert [line["steps"] for line in lines] == [steps] * 3
    assert all(line["scores"].keys() == {rule} for line in lines)


@pytest.mark.usefixtures("untrained")
def test_a_budget_of_steps_limits_the_candidates(tmp_path: Path, dtb: Dtb) -> None:
    settings = ("rule=wot", "at=step 2", "budget_steps=11")
    assert dtb("search", tmp_path, *TINY, *settings) == 0
    assert len(content(tmp_path)) == 5


@pytest.mark.usefixtures("untrained")
def test_a_budget_of_seconds_limits_the_candidates(
    tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        driver, "try_candidate", lambda *args: {**try_candidate(*args), "seconds": 10.0}
    )
    assert dtb("search", tmp_path, *TINY, "budget_seconds=55") == 0
    assert len(content(tmp_path)) == 5


@pytest.mark.usefixtures("untrained")
def test_a_dead_worker_spends_the_budget_too(
    tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(config: Any, rule: Any, candidate: Any) -> Any:
        if candidate.index == 0:
            raise OSError("gone")
        return {**try_candidate(config, rule, candidate), "seconds": 1e-3}

    monkeypatch.setattr(driver, "try_candidate", dying)
    assert dtb("search", tmp_path, *TINY, "rule=wot", "budget_seconds=3600") == 0
    lines = read_lines(SearchFolder(tmp_path).candidates_file)
    assert len(lines) == 8
    assert lines[0]["error"] == "OSError: gone"
    assert lines[0]["seconds"] > 0


@pytest.mark.usefixtures("untrained")
def test_a_search_whose_parents_have_no_unseen_mutation_ends_with_its_winner(
    tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("num_random=2", "num_parents=1", "num_children=200", "num_candidates=400")
    rule = ("rule=num_parameters", "at=epoch 0")
    monkeypatch.setattr(driver, "try_candidate", pretended)
    assert dtb("search", tmp_path, *TINY, *rule, *few, "num_images=4") == 0
    lines = content(tmp_path)
    assert {line["parent"] for line in lines[2:202]} == {0, 1}
    assert SearchFolder(tmp_path).winner_file.exists()


def test_when_no_parent_is_left_there_are_no_more_candidates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver, "mutate", lambda genotype, _seed, i: f"{genotype} {i % 3}")
    monkeypatch.setattr(driver.Genotype, "parse", staticmethod(str))
    config: Any = SimpleNamespace(seed=0, num_random=2, num_parents=1)
    draws = driver._Draws(config)
    draws.generation(0, 2, [])
    assert [each.parent for each in draws.generation(2, 9, [1, 0])] == [1, 1, 1, 0, 0, 0]
    assert draws.generation(8, 12, [1, 0]) == []


def test_each_generation_is_built_once(
    tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    mutated = driver.mutate
    monkeypatch.setattr(driver, "mutate", lambda g, s, i: drawn.append(i) or mutated(g, s, i))
    monkeypatch.setattr(driver, "try_candidate", pretended)
    monkeypatch.setattr("dtb_builder.stages.search.winner.train_winner", lambda *_: iter(()))
    monkeypatch.setattr(
        "dtb_builder.stages.search.winner.winners_run",
        lambda *_: SimpleNamespace(metric=lambda *_, **__: 0.5),
    )
    assert dtb("search", tmp_path, *TINY, "rule=num_parameters", "num_candidates=60") == 0
    assert len(content(tmp_path)) == 60
    assert len(drawn) < 2 * 60


@pytest.mark.usefixtures("untrained")
def test_a_lost_machine_fails_no_candidate(
    tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "open_engine", lambda *_: DyingEngine(5, is_lost=True))
    assert dtb("search", tmp_path, *TINY, "cluster.max_attempts=2", "num_candidates=4") == 0
    assert [line["error"] for line in content(tmp_path)] == [None] * 4


@pytest.mark.usefixtures("untrained")
def test_a_candidate_that_diverges_is_recorded_as_failed(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("rule=train_loss", "at=epoch 1", "recipe.learning_rate=1e30")
    assert dtb("search", tmp_path, *TINY, *settings, "recipe.gradient_clip=null") == 2
    assert "no candidate of 4 has a score" in capsys.readouterr().err
    errors = [line["error"] for line in content(tmp_path)]
    assert all(error.startswith("DivergedError: its training up to") for error in errors)


@pytest.mark.usefixtures("untrained")
def test_candidates_are_trained_in_compiled_passes(
    tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = find_library()
    if library is None:
        pytest.skip("installed without a C++ compiler")
    calls: Counter[str] = Counter()
    prepared = Library.prepared

    def counted(self: Library, name: str, *arguments: Any, **named: Any) -> Any:
        calls[name] += 1
        return prepared(self, name, *arguments, **named)

    monkeypatch.setattr(Library, "prepared", counted)
    few = ("num_candidates=2", "num_random=2", "rule=valid_loss", "at=epoch 1")
    assert dtb("search", tmp_path / "on", *TINY, *few) == 0
    assert calls["norm_forward"] > 0
    calls.clear()
    assert dtb("search", tmp_path / "off", *TINY, *few, "compute.kernels=off") == 0
    assert not calls


def test_a_machine_without_the_device_fails_no_candidate(
    tmp_path: Path, dtb: Dtb, refused_without_a_gpu: Callable[..., None]
) -> None:
    refused_without_a_gpu(dtb, "search", tmp_path, *TINY)
    assert content(tmp_path) == []


@pytest.mark.usefixtures("untrained")
def test_a_candidate_that_fails_is_recorded_and_never_wins(
    tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dtb_builder.stages.search import worker as search_worker

    scores = search_worker._scores

    def failing(config: Any, rule: Any, candidate: Any) -> Any:
        if candidate.index < 3:
            raise ValueError("no luck")
        return scores(config, rule, candidate)

    monkeypatch.setattr(search_worker, "_scores", failing)
    assert dtb("search", tmp_path, *TINY, "rule=wot") == 0
    lines = content(tmp_path)
    assert [line["error"] for line in lines[:3]] == ["ValueError: no luck"] * 3
    assert {line["parent"] for line in lines[4:6]} == {3}


def test_a_search_in_which_all_fail_says_so(
    tmp_path: Path, dtb: Dtb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any) -> Any:
        raise ValueError("no luck")

    monkeypatch.setattr("dtb_builder.stages.search.worker._scores", failing)
    assert dtb("search", tmp_path, *TINY) == 2
    assert "no candidate of 4 has a score" in capsys.readouterr().err


def test_other_settings_are_refused_and_so_is_a_second_search(
    searched: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("search", searched, *TINY, "seed=1") == 2
    assert "seed: 0 then, 1 now" in capsys.readouterr().err
    with FileLock(searched / ".lock"):
        assert dtb("search", searched, *TINY) == 2
    assert "another process searches" in capsys.readouterr().err


def ranked(score: str, moment: str, tau: float, step: int, seconds: float) -> Ranked:
    interval = Interval(tau, tau - 0.1, tau + 0.1)
    return Ranked(
        score=score,
        moment=moment,
        step=step,
        num_networks=60,
        tau=interval,
        rho=interval,
        partial=None,
        partial_inputs=None,
        precision=None,
        ndcg=None,
        conditional=False,
        train_seconds=seconds,
        score_seconds=0.5,
    )


RANKED = (
    ranked("rank_sum", "epoch 0", 0.9, 0, 0.0),
    ranked("training_speed", "epoch 2", 0.6, 40, 10.0),
    ranked("das", "step 10", 0.4, 10, 2.0),
    ranked("wot", "epoch 0", 0.3, 0, 0.0),
)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (("recipe.num_epochs=2",), ("training_speed", 2, None)),
        ((), ("das", None, 10)),  # the recipe has one epoch
        (("budget_seconds=50",), ("das", None, 10)),
        (("budget_steps=80",), ("das", None, 10)),
        (("budget_seconds=8",), ("wot", 0, None)),
    ],
)
def test_the_best_rule_that_the_budget_affords_is_read_from_a_ranking(
    settings: tuple[str, ...], rule: tuple[str, int | None, int | None], tmp_path: Path
) -> None:
    from dtb_builder.commands.composing import compose
    from dtb_builder.stages.search.config import SearchConfig
    from dtb_builder.stages.settings.parsing import parse

    composed = compose([*TINY, *settings, "ranking=rank.json"], "search")
    del composed["cluster"]
    config = parse(SearchConfig, composed)
    found = affordable_rule(RANKED, config, 20)
    assert found == SearchRule(score=rule[0], epoch=rule[1], step=rule[2])
    assert affordable_rule(RANKED[2:], config, 9).score == "wot"  # an epoch of 9 steps
    with pytest.raises(ConfigError, match="no rule is affordable for 8 candidates"):
        affordable_rule(RANKED[:2], parse(SearchConfig, {**composed, "budget_seconds": 1.0}), 20)


def test_the_folder_of_a_generation_is_refused(
    finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("search", finished, *TINY) == 2
    assert "is the run folder of a generation" in capsys.readouterr().err


@pytest.mark.usefixtures("untrained")
def test_a_search_follows_a_ranking_and_says_where_it_is_of_another_training(
    tmp_path: Path, dtb: Dtb, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "rank.json"
    trained = {"network": {"channels": 2, "layers": 9}, "images": {"name": "digits"}}
    write_ranking(file, Ranking(RANKED, (), (), ()), (), {"trained": trained})
    settings = (f"ranking={file}", "budget_seconds=8", "num_candidates=4", "num_random=2")
    assert dtb("search", tmp_path / "search", *TINY, *settings) == 0
    stored = json.loads((tmp_path / "search" / "search.json").read_text())
    assert stored["rule"] == {"score": "wot", "epoch": 0, "step": None}
    said = "is of another training: network.layers: 9 where it was ranked, 2 now"
    assert [record.getMessage() for record in caplog.records] == [f"{file} {said}"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rule=nope", "rule must be one of wot"),
        ("at=later", "at must be such as 'epoch 3' or 'step 10'"),
        ("'at=epoch 9'", "at must be within the recipe's 1 epochs"),
        ("rule=training_speed", "training_speed needs at least an epoch"),
        ("rule=wot at='step 4'", "rule's step must be in the first epoch, which has 3"),
        ("recipe.auxiliary_weight=0.4", "recipe.auxiliary_weight needs network.auxiliary"),
        ("num_children=0", "num_children must be at least 1"),
        ("num_random=1", "num_random must be at least 2"),
        ("budget_seconds=0", "budget_seconds must be above 0"),
        ("ranking=/nowhere/rank.json", "/nowhere/rank.json"),
        ("retry=failed", "conf/search.yaml lists every setting"),
        ("cluster.shards=0-1", "cluster.shards has no effect on a search"),
    ],
)
def test_a_bad_setting_is_refused_and_explained(
    setting: str, message: str, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("search", tmp_path, *TINY, *shlex.split(setting)) == 2
    assert message in capsys.readouterr().err
