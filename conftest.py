"""The examples of README and docs run beside a real quickstart."""

import os
from collections.abc import Iterator
from pathlib import Path

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
