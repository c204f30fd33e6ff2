"""The examples of README, of docs/ and of docstrings run on the benchmark inside the package."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def names_in_docstrings(doctest_namespace: dict[str, Any]) -> Iterator[None]:
    """What the examples of Benchmark, Run and Genotype begin with."""
    from dtb_builder import NAMED, Benchmark

    with Benchmark.example() as bench:
        doctest_namespace |= {"bench": bench, "run": bench[0], "DARTS_V2": NAMED["DARTS_V2"]}
        yield


@pytest.fixture(autouse=True)
def pages_run_in_a_folder_of_their_own(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Let pages write files, and leave torch as it was."""
    if not request.node.name.endswith(".md"):
        yield
        return
    from dtb_builder.training.setup import torch_as_it_was

    with (
        torch_as_it_was(),
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=".*DIFFERS")  # another processor has other bits
        patch.chdir(tmp_path_factory.mktemp("page"))
        yield
