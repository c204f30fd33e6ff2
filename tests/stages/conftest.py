"""A plan of two tiny runs on a corner of the digits, so that an epoch takes milliseconds."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browsing import CHROMIUM, DRIVER, chromium
from chaos import kills

from dtb_builder.cli import main

TINY = (
    "images=digits",
    "images.num_valid=1300",
    "network.channels=2",
    "network.layers=2",
    "recipe.num_epochs=3",
    "space.num_genotypes=2",
    "shard_size=1",
    "states.steps=[1,5]",
    "states.key_every=2",
)


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    if workspace is None:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.fixture
def dtb() -> Callable[..., int]:
    """The command, in this process; returns its exit code."""

    def run(*arguments: object) -> int:
        return main([str(argument) for argument in arguments])

    return run


@pytest.fixture
def generate(dtb: Callable[..., int]) -> Callable[..., int]:
    """Plan and train the tiny plan in this process."""

    def run(folder: Path, *settings: str) -> int:
        return dtb("generate", folder, *TINY, "cluster=serial", *settings)

    return run


@pytest.fixture
def refused_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """See that a command which asks for one is, on a machine that has none."""

    def check(command: Callable[..., int], *arguments: object) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        assert command(*arguments, "compute=cuda") == 2
        assert "compute.device is cuda, but torch" in capsys.readouterr().err

    return check


@pytest.fixture
def content() -> Callable[[Path], dict[Any, Any]]:
    """Everything a benchmark says that does not depend on the clock."""
    return kills.content


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that is trained and merged; not to be written to."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(["generate", str(folder), *TINY, "cluster=serial"]) == 0
    assert main(["merge", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def other_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run folder of other genotypes with the same settings; not to be written to."""
    folder = tmp_path_factory.mktemp("other") / "run"
    assert main(["generate", str(folder), *TINY, "cluster=serial", "space.seed=7"]) == 0
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real Chromium without a window."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium with its chromedriver here")
    with chromium() as driver:
        yield driver
