from pathlib import Path

import pytest

from chaos.crash_checks import PROGRAMS, check_crashes


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_crash_behind_any_system_call_loses_nothing_and_tells_nothing_wrong(
    program: str, tmp_path: Path
) -> None:
    report = check_crashes(program, tmp_path)
    assert report.num_calls > 10
    assert report.num_crashes == 2 * (report.num_calls + 1)
    assert (report.num_lost, report.num_wrong, report.num_unreadable) == (0, 0, 0)


@pytest.mark.parametrize("program", PROGRAMS)
def test_without_the_syncs_the_check_fails(program: str, tmp_path: Path) -> None:
    report = check_crashes(program, tmp_path, drop="S")
    assert report.num_lost + report.num_unreadable > 0
