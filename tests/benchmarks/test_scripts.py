"""Every benchmark script runs at its smallest size, so that none is left behind by a change.

Only `scale.py runs` does not: its five Ray nodes on one machine take minutes.
"""

import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from browsing import CHROMIUM, DRIVER
from torch import nn

from dtb_builder.cli import main as dtb
from dtb_builder.network import NetworkSpec
from dtb_builder.network.built import passes_file
from dtb_builder.space import Genotype

ROOT = Path(__file__).parents[2]
TINY = ("images=digits", "network.channels=2", "network.layers=2", "space.num_genotypes=1")
SMALL = ("--sizes", "C=8 L=5")

Script = Callable[..., str]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Script]:
    """Run a script in this process, whose imports are already paid for; returns what it prints."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.setattr(os, "environ", os.environ.copy())
    threads = torch.get_num_threads()

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        importlib.import_module(f"benchmarks.{name}").main()
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_every_script_is_tested_here_or_in_a_file_of_its_own() -> None:
    here = Path(__file__).read_text()
    for path in (ROOT / "benchmarks").glob("*.py"):
        own = Path(__file__).with_name(f"test_{path.stem}.py")
        if "__main__" in path.read_text() and not own.exists():
            assert re.search(rf'script\(\s*"{path.stem}"', here)


def test_augmentation(script: Script) -> None:
    pytest.importorskip("PIL", reason="pillow, the peer, is not installed")
    assert "| PIL, image by image |" in script(
        "augmentation", "--images", 96, "--turns", 1, "--sizes"
    )


def test_merge(script: Script, tmp_path: Path) -> None:
    smallest = ("--mebibytes", 1, "--runs-per-shard", 1, "--turns", 1)
    assert script("merge", tmp_path / "shards", *smallest).count("the same bytes") == 2


def test_overheads(script: Script) -> None:
    parts = ("--parts", "step", "files", "rankings")
    shown = script("overheads", *parts, "--turns", 1, "--runs", 2, "--networks", 9)
    assert "\n| merge 2 runs |" in shown
    assert "\n| rank 9 networks, " in shown


@pytest.mark.skipif(passes_file() is None, reason="there are no compiled passes to profile")
def test_profile_step(script: Script) -> None:
    assert "| block_backward |" in script("profile_step", "--genotypes", 1, *SMALL)


def test_published_scores(script: Script) -> None:
    smallest = (
        "--genotypes",
        9,
        "--cells",
        8,
        "--gradients",
        2,
        "--width",
        4,
        "--channels",
        4,
        "--probes",
        1,
    )
    shown = script("published_scores", *smallest, "--images", "digits")
    assert "exactly: 9 of 9" in shown
    assert "\njacov " in shown


def test_query(script: Script, tmp_path: Path) -> None:
    shown = script("query", tmp_path, "--runs", 4000, "--epochs", 2, "--turns", 1)
    assert "| three conditions | **DTB** `select` |" in shown


def test_ranking_table(script: Script, tmp_path: Path) -> None:
    tau, none = {"value": 0.5, "low": -0.25, "high": 1.0}, {"partial": None, "partial_inputs": None}
    rows = [{"score": name, "moment": "epoch 0", "tau": tau, **none} for name in ("das", "wot")]
    pair = {"first": ["wot", "epoch 0"], "second": ["das", "epoch 0"], "difference": tau}
    ratio = {"moment": "epoch 0", "agreement": 0.75}
    ranking = {"ranked": rows, "compared": [pair], "ratios": [ratio]}
    (tmp_path / "rank.json").write_text(json.dumps(ranking))
    printed = script("ranking_table", tmp_path / "rank.json")
    assert "| score | t | tau | given parameters | given I |" in printed
    assert "| `wot` | epoch 0 | +.500 [-.250, +1.000] | - | - |" in printed
    assert "| epoch 0 | -.500 [-1.000, +.250] | -" in printed  # das minus wot, turned round
    assert "| epoch 0 | 0.750 |" in printed


def test_report(script: Script, tmp_path: Path) -> None:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium with its chromedriver here")
    shown = script("report", tmp_path, "--runs", 2001, "--epochs", 2, "--turns", 1)
    assert "| points are drawn as | scattergl |" in shown
    assert "| another metric, ms | " in shown


def test_scale(script: Script) -> None:
    assert "status, 5 shards closed, " in script("scale", "plan", "--runs", 1000)
    assert "--calibrate: " in script("scale", "calibrate", *TINY, "recipe.num_epochs=1")


def test_scores(script: Script, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    settings = (*TINY, "recipe.num_epochs=1", "images.num_valid=1300", "cluster=serial")
    assert dtb(["generate", run, *settings]) == 0
    assert dtb(["merge", run]) == 0
    shown = script("scores", f"{run}/dtb.h5", "--states", 1, "--workers", 0)
    assert "2 states in " in shown


def test_bulk(script: Script) -> None:
    assert "| 72 |" in script("bulk", ROOT / "dtb_builder" / "example.h5", "--turns", 1)


def test_states(script: Script, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="safetensors, the peer, is not installed")
    script("states", tmp_path, "--train", "--sizes", "smallest")
    shown = script("states", tmp_path, "--turns", 1, "--sizes", "smallest")
    assert "bfloat16, key_every=3" in shown


def test_storing(script: Script) -> None:
    assert "| C=8 L=5 |" in script("storing", "--networks", 1, "--turns", 1)


def test_training(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside our own modules instead of a checkout of quark0/darts, which is not ours to ship."""

    def network(
        channels: int, classes: int, layers: int, auxiliary: bool, cells: SimpleNamespace
    ) -> nn.Module:
        genotype = Genotype(cells.normal, cells.reduce)
        spec = NetworkSpec(
            channels=channels,
            layers=layers,
            num_classes=classes,
            image_size=32,
            auxiliary=auxiliary,
        )
        return spec.build(genotype)

    stand_in: Any = ModuleType("model")
    stand_in.NetworkCIFAR = network
    for name, module in (("model", stand_in), ("torchvision", None), ("torchvision.transforms", 0)):
        monkeypatch.setitem(sys.modules, name, module)
    smallest = ("--genotypes", 1, "--steps", 1, "--turns", 1)
    together = ("--together", 2, "--packed-seconds", 0)
    shown = script("training", "--reference", tmp_path, *smallest, *SMALL, *together)
    assert "| mean | | | **" in shown
    assert "\n2 runs together: " in shown


def test_utilisation(script: Script) -> None:
    settings = ("cluster=serial", *TINY, "recipe.num_epochs=1", "shard_size=1")
    assert "\n1 runs of " in script("utilisation", *settings)
