import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from genotype_tables import oncenas_text, retrained_files, run301_text
from tfrecords import trained_cell

from dtb_builder.errors import TableError
from dtb_builder.images.settings import ImagesConfig
from dtb_builder.network import NetworkSpec
from dtb_builder.scores import activation_units
from dtb_builder.scores.size import num_parameters
from dtb_builder.space import sample_uniform
from dtb_builder.stages.scoring.table import read_scores
from dtb_builder.stages.scoring.table_source import TableConfig, read_table
from dtb_builder.tables.cell101 import Cell101
from dtb_builder.tables.network101 import Network101

Dtb = Callable[..., int]
QUICK = (
    "images=digits",
    "num_images=8",
    "channels=2",
    "scores=[wot,distinguishing_ability,activation_units,num_parameters]",
    "cluster=serial",
)
OPERATIONS = ("conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3")


@pytest.fixture
def nasbench101(tmp_path: Path) -> Path:
    """Six cells, each trained twice."""
    records = b""
    for i in range(6):
        adjacency = "0111001100010000" if i < 3 else "0100001000010000"
        names = ["input", OPERATIONS[i % 3], OPERATIONS[(i + i // 3) % 2], "output"]
        for accuracy in (0.8 + i / 100, 0.82 + i / 100):
            records += trained_cell(f"cell{i}", adjacency, ",".join(names), 0.1, 0.5, accuracy)
    path = tmp_path / "nasbench.tfrecord"
    path.write_bytes(records)
    return path


@pytest.fixture
def nds(tmp_path: Path) -> Path:
    """Five genotypes of two cells, and one that is outside the space."""
    networks = []
    for i in range(6):
        genotype = sample_uniform(0, i)
        cells = {
            "normal": [list(edge) for edge in genotype.normal],
            "normal_concat": [2, 3, 4, 5] if i else [4, 5],
            "reduce": [list(edge) for edge in genotype.reduce],
            "reduce_concat": [2, 3, 4, 5],
        }
        net = {"genotype": cells, "width": 2 + i, "depth": 2, "aux": False}
        networks.append({"net": net, "test_ep_top1": [50.0, 10.0 + i]})
    path = tmp_path / "DARTS.json"
    path.write_text(json.dumps(networks))
    return path


def test_cells_of_nasbench101_are_scored_and_ranked(
    nasbench101: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--benchmark", "nasbench101", "--resamples", 20)
    assert dtb("rank", nasbench101, *options, *QUICK) == 0
    shown = capsys.readouterr().out
    assert "6 networks drawn, 0 outside the space" in shown
    assert "num_parameters" in shown
    rows = read_scores(nasbench101.with_name("scores.parquet")).rows
    assert {row["genotype"] for row in rows} == {f"cell{i}" for i in range(6)}
    cell = Cell101(((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)), OPERATIONS[:1] * 2)
    first = next(row for row in rows if row["genotype"] == "cell0")
    assert first["num_parameters"] == num_parameters(Network101(cell, channels=2))
    assert first["epoch"] == first["step"] == 0
    assert not any(row["errors"] for row in rows)


def test_genotypes_of_nds_are_scored_at_their_own_size(
    nds: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("rank", nds, "--benchmark", "nds", "--resamples", 20, *QUICK) == 0
    assert "5 networks drawn, 1 outside the space" in capsys.readouterr().out
    rows = {row["genotype"]: row for row in read_scores(nds.with_name("scores.parquet")).rows}
    for i in range(1, 6):
        spec = NetworkSpec(channels=2 + i, layers=2, num_classes=10, image_size=8)
        row = rows[f"network {i}"]
        assert row["activation_units"] == activation_units(sample_uniform(0, i), spec)
        assert row["errors"] is None


def config(**changes: int) -> TableConfig:
    images = ImagesConfig(name="digits", root=None, num_valid=200, split_seed=0)
    settings = {"num_networks": 3, "network_seed": 0, "channels": 2} | changes
    return TableConfig(images=images, **settings)


def test_the_same_seed_draws_the_same_networks_and_means_of_their_trainings(
    nasbench101: Path,
) -> None:
    digest, networks, _ = read_table("nasbench101", nasbench101, config())
    assert read_table("nasbench101", nasbench101, config()) == (digest, networks, 0)
    assert len(networks) == 3
    for network in networks:
        assert network.accuracy == pytest.approx(0.81 + int(network.name[-1]) / 100)
    others = read_table("nasbench101", nasbench101, config(network_seed=1))[1]
    assert {each.name for each in others} != {each.name for each in networks}


def test_a_draw_does_not_depend_on_how_much_of_the_file_was_kept_meanwhile(
    nasbench101: Path,
) -> None:
    whole = read_table("nasbench101", nasbench101, config(num_networks=6))[1]
    assert read_table("nasbench101", nasbench101, config(num_networks=2))[1] == whole[:2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--benchmark", "nope"), "--benchmark must be one of nasbench101, nds"),
        (("--benchmark", "nds", "--by", "valid_accuracy"), "have a test_accuracy only"),
        (("--benchmark", "nds"), "is not UTF-8 text"),
        (("num_images=3",), "without --benchmark, rank takes no 'num_images=3'"),
        (("--benchmark", "nasbench101", "num_networks=1"), "num_networks must be at least 2"),
        (("--benchmark", "nasbench101", "recipe.num_epochs=1"), "conf/table.yaml lists"),
        (("--benchmark", "nasbench101", "--choose"), "of half the networks need at least 18"),
    ],
)
def test_a_bad_option_is_refused_and_explained(
    options: tuple[str, ...],
    message: str,
    nasbench101: Path,
    dtb: Dtb,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dtb("rank", nasbench101, *options) == 2
    assert message in capsys.readouterr().err
    assert not list(nasbench101.parent.glob("scores*"))  # refused before anything is scored


def test_a_file_that_is_not_there_is_refused(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("rank", tmp_path / "missing", "--benchmark", "nds", *QUICK) == 2
    assert "missing" in capsys.readouterr().err


def test_runs_of_nasbench301_are_scored_and_ranked(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "nb301" / "rs" / "results_fidelity_0"
    runs.mkdir(parents=True)
    for i in range(5):
        text = run301_text(sample_uniform(0, i), 90 + i)
        (runs / f"results_{i}.json").write_text(text)
    options = ("--benchmark", "nasbench301", "--resamples", 20, *QUICK)
    assert dtb("rank", tmp_path / "nb301", *options) == 0
    assert "5 networks drawn, 0 outside the space" in capsys.readouterr().out
    rows = {row["genotype"]: row for row in read_scores(tmp_path / "scores.parquet").rows}
    spec = NetworkSpec(channels=2, layers=2, num_classes=10, image_size=8)
    for i in range(5):
        assert rows[f"network {i}"]["activation_units"] == activation_units(
            sample_uniform(0, i), spec
        )


def test_runs_of_several_recipes_are_not_ranked_together(tmp_path: Path) -> None:
    for i, rate in enumerate((0.025, 0.03)):
        recipe = {"OptimizerSelector:sgd:learning_rate": rate}
        text = run301_text(sample_uniform(0, i), 90, **recipe)
        (tmp_path / f"results_{i}.json").write_text(text)
    with pytest.raises(TableError, match=r"differ in OptimizerSelector:sgd:learning_rate"):
        read_table("nasbench301", tmp_path, config())
    (tmp_path / "results_1.json").write_text("{}")
    with pytest.raises(TableError, match=r"results_1.json: wanted a run"):
        read_table("nasbench301", tmp_path, config())


def test_a_genotype_that_a_table_has_twice_counts_once(tmp_path: Path) -> None:
    texts = [str(sample_uniform(0, i)) for i in (0, 1, 0)]
    path = tmp_path / "data.csv"
    path.write_text(oncenas_text(list(zip(texts, (90.0, 91.0, 94.0), strict=True))))
    networks = read_table("oncenas", path, config())[1]
    assert {network.name: network.accuracy for network in networks} == pytest.approx(
        {"network 0": 0.92, "network 1": 0.91}
    )


def test_curves_stand_beside_the_genotypes(tmp_path: Path) -> None:
    genotypes = [sample_uniform(0, i) for i in range(3)]
    path = retrained_files(tmp_path, genotypes, np.full((3, 2), 95.0))
    assert {network.accuracy for network in read_table("retrained", path, config())[1]} == {0.95}
    curves = path.with_name("214_random_architectures.npy")
    curves.write_bytes(b"nothing")
    with pytest.raises(TableError, match="is no array of numbers"):
        read_table("retrained", path, config())
    curves.unlink()
    with pytest.raises(FileNotFoundError, match="214_random_architectures"):
        read_table("retrained", path, config())
