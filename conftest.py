"""The examples of README and docs run beside a real quickstart."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quickstart was run, without Ray to be quicker."""
    from dtb_builder.cli import main

    folder = tmp_path_factory.mktemp("readme")
    run = str(folder / "runs" / "quickstart")
    assert main(["generate", run, "experiment=quickstart", "cluster=serial"]) == 0
    assert main(["merge", run]) == 0
    return folder


@pytest.fixture(scope="session", autouse=True)
def names_in_docstrings(doctest_namespace: dict[str, Any]) -> Iterator[None]:
    """What the examples of Benchmark, Run and Genotype begin with."""
    from dtb_builder import NAMED, Benchmark

    with Benchmark.example() as bench:
        doctest_namespace |= {"bench": bench, "run": bench[0], "DARTS_V2": NAMED["DARTS_V2"]}
        yield


@pytest.fixture(autouse=True)
def pages_run_beside_the_quickstart(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the pages' paths mean the quickstart's, and leave torch as it was."""
    if request.node.name == "analyses.md":
        from dtb_builder.training.setup import torch_as_it_was

        with torch_as_it_was():
            yield
        return
    if request.node.name not in ("README.md", "querying.md"):
        yield
        return
    folder = request.getfixturevalue("quickstart")
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)
