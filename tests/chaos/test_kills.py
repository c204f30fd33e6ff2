from pathlib import Path
from typing import Any

import pytest

from chaos.full_disk import KILOBYTES, fill_and_go_on
from chaos.kills import kill_and_go_on, terminate_while_starting, uninterrupted

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    return uninterrupted(tmp_path_factory.mktemp("plain") / "run")


@pytest.mark.parametrize("scenario", ["kill -9 of every process", "a node removed"])
def test_a_generation_that_was_struck_goes_on_to_the_same_bits(
    scenario: str, tmp_path: Path, expected: dict[Any, Any]
) -> None:
    report = kill_and_go_on(scenario, tmp_path / "run", expected)
    assert report.num_resumed >= 1, report
    assert report.fewest_after_resume is not None
    assert report.fewest_after_resume >= 2, report
    assert (report.num_lost, report.num_wrong, report.num_unreadable) == (0, 0, 0), report


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_a_generation_told_to_stop_while_it_starts_stops(seconds: float, tmp_path: Path) -> None:
    code, took = terminate_while_starting(tmp_path / "run", seconds)
    assert code == 75
    assert took < 30


def test_a_disk_that_fills_up_costs_nothing_that_is_finished(tmp_path: Path) -> None:
    _, num_full, report = fill_and_go_on(tmp_path, KILOBYTES[::3])
    assert num_full >= 3
    assert (report.num_lost, report.num_wrong, report.num_unreadable) == (0, 0, 0), report
