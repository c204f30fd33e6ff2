import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import zscore
from slow_bootstrap import bootstrap, compare

from dtb_builder import Benchmark
from dtb_builder.errors import ConfigError
from dtb_builder.scores import cell_depth, input_edges, standardised_input_edges
from dtb_builder.scores.names import SCORES
from dtb_builder.space import NAMED
from dtb_builder.stages.ranking.between_seeds import between_seeds, ceiling
from dtb_builder.stages.ranking.choice import choose_rules, rules_of
from dtb_builder.stages.ranking.halfway import halfway
from dtb_builder.stages.ranking.population import Population, aggregates, combined, populations_of
from dtb_builder.stages.ranking.population import scores_of as named_scores
from dtb_builder.stages.ranking.rank import rank, ratio_of
from dtb_builder.stages.ranking.report import print_ranking, read_ranking, write_ranking
from dtb_builder.stages.scoring.fingerprint import fingerprint
from dtb_builder.stages.scoring.table import ScoreTable, seconds_name
from dtb_builder.statistics import kendall_tau, ndcg, partial_tau, spearman_rho, top_overlap
from dtb_builder.statistics.resampling import draw_resamples, kendall_taus

Dtb = Callable[..., int]


def population(
    size: int = 30, *, epoch: int = 0, seed: int = 0, **scores: np.ndarray
) -> Population:
    rng = np.random.default_rng(seed)
    accuracies = np.random.default_rng(0).random(size)
    given = {"good": accuracies + 0.4 * rng.random(size), "noise": rng.random(size)}
    return Population(
        networks=tuple(map(str, range(size))),
        epoch=epoch,
        step=10 * epoch,
        accuracies=accuracies,
        num_parameters=np.random.default_rng(5).random(size),
        input_edges=np.random.default_rng(6).integers(2, 9, size).astype(float),
        scores=given | scores,
        train_seconds=2.0 * epoch,
        score_seconds={"good": 0.5},
    )


def test_a_row_has_the_statistics_of_its_score() -> None:
    people = population()
    ranking = rank([people], seed=1, num_resamples=2000)
    good, noise = ranking.ranked
    scores, accuracies = people.scores["good"], people.accuracies
    slow = bootstrap(kendall_tau, scores, accuracies, np.random.default_rng(2), num_resamples=500)
    assert good.score == "good"
    assert good.tau.value == kendall_tau(scores, accuracies)
    assert (good.tau.low, good.tau.high) == pytest.approx((slow.low, slow.high), abs=0.05)
    assert good.rho.value == spearman_rho(scores, accuracies)
    assert good.partial is not None
    assert good.partial.value == partial_tau(scores, accuracies, people.num_parameters)
    assert good.partial_inputs is not None
    assert good.partial_inputs.value == partial_tau(scores, accuracies, people.input_edges)
    for found, statistic in ((good.precision, top_overlap), (good.ndcg, ndcg)):
        assert found is not None
        assert found.value == statistic(scores, accuracies, share=0.1)
        assert 0 <= found.low <= found.high <= 1
    assert (good.num_networks, good.train_seconds, good.score_seconds) == (30, 0.0, 0.5)
    assert 0 in noise.tau


def test_differences_are_paired() -> None:
    people = population()
    (compared,) = rank([people], seed=1, num_resamples=2000).compared
    slow = compare(
        kendall_tau,
        people.scores["good"],
        people.scores["noise"],
        people.accuracies,
        np.random.default_rng(2),
        num_resamples=500,
    )
    assert compared.first == ("good", "epoch 0")
    assert compared.difference.value == slow.value
    assert compared.difference.low == pytest.approx(slow.low, abs=0.06)
    assert compared.significant
    assert compared.share_better > 0.95


def test_a_score_is_compared_with_itself_at_the_first_moment() -> None:
    ranking = rank([population(), population(epoch=1, seed=3)], seed=0, num_resamples=50)
    later = [c for c in ranking.compared if c.first[1] != c.second[1]]
    assert [c.first + c.second for c in later] == [
        ("good", "epoch 1", "good", "epoch 0"),
        ("noise", "epoch 1", "noise", "epoch 0"),
    ]


def test_other_networks_at_a_later_moment_are_not_compared_and_that_is_said() -> None:
    ranking = rank([population(), population(29, epoch=1)], seed=0, num_resamples=50)
    assert len(ranking.ranked) == 4
    assert all(c.first[1] == c.second[1] for c in ranking.compared)
    assert ranking.left_out[0].startswith("differences between epoch 1 and epoch 0: their networks")


def test_a_network_without_a_score_is_left_out_of_that_score_and_its_comparisons() -> None:
    partly = population().scores["good"].copy()
    partly[:5] = np.nan
    people = population(partly=partly)
    ranking = rank([people], seed=0, num_resamples=50)
    row = next(row for row in ranking.ranked if row.score == "partly")
    assert row.num_networks == 25
    assert row.tau.value == kendall_tau(partly[5:], people.accuracies[5:])
    pair = next(c for c in ranking.compared if {c.first[0], c.second[0]} == {"good", "partly"})
    assert pair.difference.value == pair.difference.low == pair.difference.high == 0


def test_the_number_of_networks_is_not_that_of_the_best_score_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    partly = population().accuracies.copy()
    partly[:5] = np.nan
    people = population(seed=1, partly=partly)
    print_ranking(rank([people], seed=0, num_resamples=20), every=False)
    assert re.search(r"^networks +30$", capsys.readouterr().out, re.MULTILINE)


def test_a_score_that_orders_nothing_is_left_out_with_the_reason() -> None:
    ranking = rank([population(same=np.ones(30))], seed=0, num_resamples=50)
    assert {row.score for row in ranking.ranked} == {"good", "noise"}
    assert ranking.left_out == (
        "same at epoch 0: scores must differ to be ranked, got 1.0 for all networks",
    )


def test_parameters_have_no_partial_tau_given_themselves() -> None:
    parameters = np.random.default_rng(5).random(30)
    ranking = rank([population(num_parameters=parameters)], seed=0, num_resamples=50)
    row = next(row for row in ranking.ranked if row.score == "num_parameters")
    assert row.partial is None


def test_too_few_networks_have_no_interval_of_a_partial_tau() -> None:
    few, many = (rank([population(size)], seed=0, num_resamples=500).ranked[1] for size in (5, 30))
    assert few.partial is None
    assert few.tau.low < few.tau.value < few.tau.high
    assert many.partial is not None


def test_without_different_parameters_there_is_no_partial_tau() -> None:
    for parameters in (np.ones(30), np.full(30, np.nan)):
        people = replace(population(), num_parameters=parameters)
        ranking = rank([people], seed=0, num_resamples=50)
        assert [row.partial for row in ranking.ranked] == [None, None]


def test_the_ratio_of_das_to_wot_has_an_interval() -> None:
    das, wot = population().scores["good"], population(seed=4).scores["good"]
    people = population(das=das, wot=wot)
    (found,) = rank([people], seed=0, num_resamples=500).ratios
    expected = kendall_tau(das, people.accuracies) / kendall_tau(wot, people.accuracies)
    assert found.agreement == kendall_tau(das, wot) < 0.9
    assert found.ratio is not None
    assert found.ratio.value == expected
    assert found.ratio.low < expected < found.ratio.high


def test_there_is_no_ratio_of_two_scores_that_are_the_same_ranking(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wot = population().scores["good"]
    ranking = rank([population(das=2 * wot, wot=wot)], seed=0, num_resamples=50)
    assert ranking.ratios[0].ratio is None
    print_ranking(ranking, every=False)
    shown = "DAS / WOT at epoch 0: no ratio; DAS and WOT are the same ranking here: tau between"
    assert shown in capsys.readouterr().out


def test_there_is_no_ratio_where_the_tau_of_wot_may_be_0() -> None:
    scores = population().scores
    people = population(das=scores["good"], wot=scores["noise"])
    (found,) = rank([people], seed=0, num_resamples=200).ratios
    assert found.ratio is None
    assert found.reason is not None
    assert found.reason.startswith("tau of WOT may be 0: -")


def test_resamples_with_a_tau_of_0_below_the_line_are_infinite_and_count() -> None:
    tops, bottoms = np.full(100, 0.5), np.full(100, 0.25)
    bottoms[:2] = 0
    ratio, num_infinite = ratio_of((0.5, tops), (0.25, bottoms))
    assert num_infinite == 2
    assert (ratio.value, ratio.low, ratio.high) == (2, 2, 2)
    bottoms[:10] = 0
    ratio, num_infinite = ratio_of((0.5, tops), (0.25, bottoms))
    assert (num_infinite, ratio.high) == (10, np.inf)


def test_the_same_seed_gives_the_same_ranking() -> None:
    one, other = (rank([population()], seed=3, num_resamples=50) for _ in range(2))
    assert one == other
    assert one != rank([population()], seed=4, num_resamples=50)


def test_combinations_of_the_atoms_leave_out_networks_without_one() -> None:
    atoms = {
        "distinguishing_ability": np.array([-3.0, np.nan, -1.0, -2.0]),
        "activation_units": np.array([10.0, 20.0, 30.0, 40.0]),
    }
    found = combined(atoms, 8)
    assert found.keys() == {"linear_0.03", "linear_0.1", "linear_0.3"} | {
        "rank_sum",
        "log_rank",
        "z_sum",
    }
    assert all(
        np.isnan(values).tolist() == [False, True, False, False] for values in found.values()
    )
    assert found["rank_sum"][[0, 2, 3]].tolist() == [2, 5, 5]


def test_combinations_with_a_third_atom_and_parameters_are_sums_of_z_scores() -> None:
    rng = np.random.default_rng(0)
    columns = {
        "distinguishing_ability": -rng.random(9),
        "activation_units": rng.integers(5, 99, 9).astype(float),
        "num_parameters": rng.integers(5, 99, 9).astype(float),
        "input_edges": rng.integers(2, 9, 9).astype(float),
        "das": rng.random(9),
    }
    d, a, p, i = (
        zscore(each)
        for each in (
            columns["distinguishing_ability"],
            np.log(columns["activation_units"]),
            np.log(columns["num_parameters"]),
            columns["input_edges"],
        )
    )
    found = combined(columns, 8)
    assert found["z_sum3"] == pytest.approx(d + a + i)
    assert found["D_params"] == pytest.approx(d + p)
    assert found["params_I"] == pytest.approx(p + i)
    third = standardised_input_edges(columns["input_edges"])
    assert found["das3"] == pytest.approx(columns["das"] + third)


def test_az_nas_and_te_nas_put_the_ranks_of_their_parts_together() -> None:
    names = ("az_expressivity", "az_progressivity", "az_trainability", "multiply_accumulates")
    columns = {name: np.array([1.0, 2, np.nan, 3]) for name in names}
    columns |= {"ntk_condition": np.array([-9.0, -3, -5, -1])}
    assert aggregates(columns).keys() == {"az_nas"}
    found = aggregates(columns | {"linear_regions": np.array([4.0, 4, 1, 2])})
    assert found["az_nas"][[0, 1, 3]] == pytest.approx(4 * np.log([1, 2, 3]))
    assert np.isnan(found["az_nas"][2])
    assert found["te_nas"].tolist() == [1 + 3.5, 3 + 3.5, 2 + 1, 4 + 2]


def test_az_nas_costs_a_shared_pass_once_and_params_i_costs_none() -> None:
    names = ("az_expressivity", "az_progressivity", "az_trainability", "multiply_accumulates")
    names += ("distinguishing_ability", "activation_units", "num_parameters")
    rows = [{"num_images": 8} | dict.fromkeys(names, float(i + 1)) for i in range(3)]
    for row in rows:
        row |= {"das": None} | {seconds_name(name): 2.0 for name in names}
    cells = [NAMED[name] for name in ("DARTS_V2", "SNAS_mild", "PDARTS")]
    columns, seconds = named_scores(rows, cells)
    assert seconds["az_nas"] == 4
    assert "params_I" in columns
    assert "params_I" not in seconds


def test_rules_are_single_scores_and_pairs_with_a_fitted_weight() -> None:
    partly = np.full(30, np.nan)
    rules = rules_of(population(partly=partly, same=np.ones(30), z_sum=np.arange(30.0)))
    assert list(rules) == ["good", "noise", "z_sum", "good + w noise"]


def test_a_rule_is_chosen_for_each_split_and_held_against_wot() -> None:
    people = population(40, wot=np.random.default_rng(8).random(40))
    choices = list(choose_rules(people, seed=0, num_splits=2, num_resamples=50))
    assert [choice.split for choice in choices] == [0, 1]
    for choice in choices:
        assert "good" in choice.rule
        assert choice.num_rules == 6
        assert choice.gains["wot"].value == pytest.approx(
            choice.on_other_half.value - choice.others["wot"].value
        )


def scores_of(finished: Path) -> ScoreTable:
    """Scores of the tiny benchmark that nobody computed."""
    with Benchmark(finished / "dtb.h5") as benchmark:
        return ScoreTable({}, rows_of(benchmark))


def rows_of(benchmark: Benchmark) -> list[dict[str, Any]]:
    empty = dict.fromkeys([*SCORES, *map(seconds_name, SCORES), "das", "singular", "errors"])
    return [
        {
            **empty,
            "run": run.number,
            "seed": run.seed,
            "genotype": str(run.genotype),
            "fingerprint": fingerprint(run),
            "epoch": epoch,
            "step": 3 * epoch,
            "num_images": 8,
            "distinguishing_ability": -1.0 - run.number,
            "activation_units": 100.0 + run.number,
            "wot": float(run.number),
            "wot_seconds": 0.5,
        }
        for run in benchmark
        for epoch in run.state_epochs
    ]


def test_a_benchmarks_populations_have_scores_and_early_figures(finished: Path) -> None:
    with Benchmark(finished / "dtb.h5") as benchmark:
        found = populations_of(benchmark, scores_of(finished), accuracy="test_accuracy")
        assert [each.label for each in found] == ["epoch 0", "epoch 1", "epoch 2", "epoch 3"]
        assert "training_speed" not in found[0].scores
        last = found[-1]
        assert last.accuracies.tolist() == benchmark.array("test_accuracy", epoch=-1).tolist()
        losses = benchmark.array("train_loss")[:, 1:].sum(axis=1)
        assert last.scores["training_speed"] == pytest.approx(-losses)
        seconds = benchmark.array("train_seconds")[:, 1:].sum(axis=1)
        assert last.train_seconds is not None
        assert last.train_seconds == pytest.approx(seconds.mean())
        assert last.scores["wot"].tolist() == [0, 1]
        cells = [run.genotype for run in benchmark]
        assert last.input_edges.tolist() == [input_edges(each) for each in cells]
        assert last.scores["cell_depth"].tolist() == [cell_depth(each) for each in cells]
        assert last.score_seconds["wot"] == 0.5


def test_seeds_of_a_genotype_count_once_with_their_mean(finished: Path) -> None:
    table = scores_of(finished)
    rows = [{**row, "genotype": "one"} for row in table.rows]
    extra = [{**row, "genotype": "two"} for row in table.rows if row["run"] == 1]
    with Benchmark(finished / "dtb.h5") as benchmark:
        found = populations_of(benchmark, ScoreTable({}, rows + extra), accuracy="test_accuracy")
    assert found[0].networks == ("one", "two")
    assert found[0].scores["wot"].tolist() == [0.5, 1]


def test_scores_of_the_same_genotypes_in_another_training_are_refused(finished: Path) -> None:
    rows = [{**row, "fingerprint": "0123456789abcdef"} for row in scores_of(finished).rows]
    refused = pytest.raises(ConfigError, match="is of another benchmark: its run 0 is not that of")
    with Benchmark(finished / "dtb.h5") as benchmark, refused:
        populations_of(benchmark, ScoreTable({}, rows), accuracy="test_accuracy")


def test_a_training_whose_time_was_not_measured_costs_nobody_knows_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranking = rank([replace(population(), train_seconds=None)], seed=0, num_resamples=20)
    print_ranking(ranking, every=True)
    assert "training s" in capsys.readouterr().out
    write_ranking(tmp_path / "rank.json", ranking, (), {})
    assert read_ranking(tmp_path / "rank.json")[0].seconds is None


def test_a_single_network_cannot_be_ranked(finished: Path) -> None:
    table = scores_of(finished)
    alone = ScoreTable({}, [row for row in table.rows if row["run"] == 1])
    with (
        Benchmark(finished / "dtb.h5") as benchmark,
        pytest.raises(ConfigError, match="fewer than 2 networks with scores cannot be ranked"),
    ):
        populations_of(benchmark, alone, accuracy="test_accuracy")


def test_parameters_that_order_as_accuracies_do_cost_no_score_its_row() -> None:
    people = population(10)
    ranking = rank([replace(people, num_parameters=people.accuracies)], seed=0, num_resamples=100)
    assert {row.score: row.partial for row in ranking.ranked} == {"good": None, "noise": None}
    assert ranking.left_out == ()


def test_a_ranking_names_the_length_of_the_training(finished: Path) -> None:
    with Benchmark(finished / "dtb.h5") as benchmark:
        found = halfway(benchmark, accuracy="test_accuracy", num_resamples=50)
        half, last = (benchmark.array("test_accuracy", epoch=epoch) for epoch in (1, -1))
        assert found is not None
        assert (found.num_epochs, found.epoch) == (3, 1)
        assert found.tau.value == kendall_tau(half, last)
        assert str(found).startswith("3 epochs; the order of the networks at epoch 1 has a median")


def test_seeds_of_a_genotype_are_one_network_in_the_length_of_the_training() -> None:
    with Benchmark.example() as benchmark:
        found = halfway(benchmark, accuracy="test_accuracy", num_resamples=50)
        epochs = benchmark.by_genotype().array("test_accuracy").mean(axis=1).data
    counts = draw_resamples(6, 50, np.random.default_rng(0))
    assert found is not None
    taus = kendall_taus(epochs[:, found.epoch], epochs[:, -1], counts)
    assert found.tau.value == np.nanmedian(taus)


def test_a_ranking_names_how_well_two_seeds_agree(finished: Path) -> None:
    with Benchmark.example() as benchmark:
        found = between_seeds(benchmark, accuracy="test_accuracy", num_resamples=50)
        first, second = benchmark.by_genotype().array("test_accuracy", epoch=-1).T
        assert found is not None
        assert found.num_networks == 6
        assert found.tau.value == kendall_tau(first, second)
        assert str(found).startswith("6 networks have two seeds; the final accuracies of the two")
    with Benchmark(finished / "dtb.h5") as one_seed:
        assert between_seeds(one_seed, accuracy="test_accuracy") is None


def test_the_ceiling_is_the_tau_of_the_true_means_with_one_training() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=4000)
    first, second = means + rng.normal(scale=0.7, size=(2, 4000))
    found = ceiling(kendall_tau(first, second))
    assert found == pytest.approx(kendall_tau(means, first), abs=0.02)
    assert ceiling(1.0) == pytest.approx(1.0)
    assert ceiling(0.0) is None


def test_a_ranking_of_an_older_version_is_read_without_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "rank.json"
    write_ranking(file, rank([population()], seed=0, num_resamples=20), (), {})
    content = json.loads(file.read_text())
    for row in content["ranked"]:
        for name in ("partial_inputs", "precision", "ndcg", "conditional"):
            del row[name]
        row["top"] = 0.5
    file.write_text(json.dumps(content))
    (first, _) = read_ranking(file)
    assert (first.score, first.precision, first.conditional) == ("good", None, False)


def test_a_missing_file_of_scores_names_who_makes_it(
    finished: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("rank", finished / "dtb.h5", "--scores", tmp_path / "scores.parquet") == 2
    assert "make it with dtb score" in capsys.readouterr().err


def test_the_command_prints_a_table_and_writes_json_and_a_plot(
    tmp_path: Path, dtb: Dtb, generate: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    tiny = ("space.num_genotypes=3", "recipe.num_epochs=2")
    assert generate(folder, *tiny) == 0
    assert dtb("merge", folder) == 0
    names = "wot,distinguishing_ability,activation_units,num_parameters"
    settings = ("num_images=8", "num_reference=null", "cluster=serial", f"scores=[{names}]")
    assert dtb("score", folder / "dtb.h5", *settings) == 0
    capsys.readouterr()
    assert dtb("rank", folder / "dtb.h5", "--choose") == 2
    refused = capsys.readouterr()
    assert "no choice at epoch 0: 3 folds of half the networks need at least 18" in refused.err
    assert not refused.out
    assert dtb("rank", folder / "dtb.h5", "--resamples", 50) == 0
    shown = capsys.readouterr().out
    for word in (
        "2 epochs; the order of the networks at epoch 1",
        "wot",
        "epoch 1",
        "tau | parameters",
        "tau | I",
        "nDCG",
        "DAS / WOT",
        "significant",
        "not adjusted",
    ):
        assert word in shown
    written = json.loads((folder / "rank.json").read_text())
    moments = list(dict.fromkeys(row["moment"] for row in written["ranked"]))
    assert moments == ["epoch 0", "step 1", "epoch 1", "step 5", "epoch 2"]
    assert written["about"]["probe"]["sha256"]
    assert len(read_ranking(folder / "rank.json")) == len(written["ranked"])
    page = (folder / "rank.html").read_text()
    assert "training_speed" in page
    assert 'src="http' not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--by", "valid_loss"), "--by must be one of train_accuracy, "),
        (("--resamples", "0"), "--resamples and --splits at least 1"),
    ],
)
def test_a_bad_option_is_refused(
    options: tuple[str, ...],
    message: str,
    finished: Path,
    tmp_path: Path,
    dtb: Dtb,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dtb_builder.stages.scoring.table import write_scores

    names = ("probe_sha256", "smallest_eigenvalue", "state_seconds", "environment")
    rows = [{**dict.fromkeys(names), **row} for row in scores_of(finished).rows]
    write_scores(tmp_path / "scores.parquet", ScoreTable({}, rows))
    file = tmp_path / "scores.parquet"
    assert dtb("rank", finished / "dtb.h5", "--scores", file, *options) == 2
    assert message in capsys.readouterr().err


def test_networks_of_which_a_training_diverged_come_last_and_are_counted(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Benchmark(finished / "dtb.h5") as benchmark:
        index = benchmark._store.index
        table = scores_of(finished)
        before = populations_of(benchmark, table, accuracy="valid_accuracy")[0]
        best = int(np.argmax(before.accuracies))
        last = np.array(benchmark.last_epochs)
        last[best] = 1
        monkeypatch.setitem(index._arrays, "runs/num_epochs", last)
        (first, *_) = populations_of(benchmark, table, accuracy="valid_accuracy")
    assert (before.num_diverged, first.num_diverged) == (0, 1)
    assert len(first.accuracies) == len(before.accuracies)
    assert int(np.argmin(first.accuracies)) == best
    assert first.accuracies[best] < 0


def test_a_network_of_which_one_seed_diverged_comes_last_at_every_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Benchmark.example() as benchmark:
        last = np.array(benchmark.last_epochs)
        last[0] = 1
        rows = [row for row in rows_of(benchmark) if row["run"] != 0 or row["epoch"] < 2]
        monkeypatch.setitem(benchmark._store.index._arrays, "runs/num_epochs", last)
        for found in populations_of(benchmark, ScoreTable({}, rows), accuracy="test_accuracy"):
            assert found.accuracies[found.networks.index(str(benchmark[0].genotype))] == -1
            assert found.num_diverged == 1


def test_between_two_seeds_a_diverged_training_comes_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Benchmark.example() as benchmark:
        first, second = benchmark.by_genotype().array("test_accuracy", epoch=-1).T
        last = np.array(benchmark.last_epochs)
        last[1] = 3  # the second seed of the first genotype
        monkeypatch.setitem(benchmark._store.index._arrays, "runs/num_epochs", last)
        found = between_seeds(benchmark, accuracy="test_accuracy", num_resamples=5)
        assert found is not None
        assert found.num_networks == 6
        assert found.tau.value == kendall_tau(first, [-1, *second[1:]])
