import sys

import pytest

from dtb_builder.commands import progress


def test_off_a_terminal_progress_is_whole_lines_and_few(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress.progress(total=32, unit="epoch", desc="8 runs") as bar:
        for done in range(32):
            bar.update()
            if done == 3:
                bar.write("run 3 failed", file=sys.stderr)
    said = capsys.readouterr().err
    first, failed, last = said.splitlines()
    assert first.startswith("8 runs:   0% 0/32")
    assert failed == "run 3 failed"
    assert last.startswith("8 runs: 100% 32/32")
    assert "\r" not in said


def test_a_forecast_of_the_callers_own_stands_in_place_of_tqdms(
    capsys: pytest.CaptureFixture[str],
) -> None:
    about = {"unit": "epoch", "desc": "8 runs", "bar_format": progress.WITH_POSTFIX}
    with progress.progress(total=32, **about) as bar:
        bar.set_postfix_str("about 2:00:00 left", refresh=False)
        bar.update(8)
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "8 runs: 0% 0/32 [00:00]",
        "8 runs: 25% 8/32 [00:00, about 2:00:00 left]",
    ]
