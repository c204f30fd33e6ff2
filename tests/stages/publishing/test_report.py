"""The report: what stands in it, and that a browser shows it."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from dtb_builder import Benchmark, Run
from dtb_builder.errors import ConfigError, NotDTBFileError
from dtb_builder.scores.names import SCORES
from dtb_builder.stages.publishing.report import report
from dtb_builder.stages.scoring.fingerprint import fingerprint
from dtb_builder.stages.scoring.table import ScoreTable, read_scores, seconds_name, write_scores

Dtb = Callable[..., int]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def made_up(run: Run, epoch: int | None) -> dict[str, Any]:
    """A row of scores; without an epoch, that of a step within the first."""
    names = [*SCORES, *map(seconds_name, SCORES), "probe_sha256", "smallest_eigenvalue", "das"]
    return {
        **dict.fromkeys([*names, "singular", "state_seconds", "environment", "errors"]),
        "run": run.number,
        "seed": run.seed,
        "genotype": str(run.genotype),
        "fingerprint": fingerprint(run),
        "epoch": epoch,
        "step": 5 if epoch is None else 3 * epoch,
        "num_images": 8,
        "wot": 10.0 * run.number + (epoch or 0),
        "wot_seconds": 0.1,
    }


def test_moments_are_in_the_order_in_which_they_were_reached(page: Path) -> None:
    found = re.search(r'"x":\["0","step 5","3"\]', page.read_text())
    assert found is not None


@pytest.fixture(scope="module")
def page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the tiny benchmark, with scores that somebody made up."""
    folder = tmp_path_factory.mktemp("report")
    with Benchmark(finished / "dtb.h5") as benchmark:
        made = ScoreTable({}, [made_up(run, epoch) for run in benchmark for epoch in (0, None, 3)])
        write_scores(folder / "scores.parquet", made)
        text = report(benchmark, folder / "scores.parquet")
    (folder / "report.html").write_text(text)
    return folder / "report.html"


def test_the_page_asks_the_network_for_nothing(page: Path) -> None:
    markup = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=""", markup.replace('xlink:href="#', ""))


def test_every_run_stands_in_the_page_with_its_genotype(page: Path, finished: Path) -> None:
    text = page.read_text()
    with Benchmark(finished / "dtb.h5") as benchmark:
        for run in benchmark:
            assert str(run.genotype) in text


def test_failures_are_listed_with_their_traceback(finished: Path, monkeypatch: Any) -> None:
    from dtb_builder.dataset.store import FailedRun

    with Benchmark(finished / "dtb.h5") as benchmark:
        genotype = benchmark.run(0).genotype
        failure = FailedRun(
            number=7,
            genotype=genotype,
            seed=3,
            order_seed=4,
            attempts=2,
            message="Traceback\n<b>Boom</b>",
        )
        monkeypatch.setattr(benchmark, "_failures", (failure,))
        text = report(benchmark)
    assert "<summary>&lt;b&gt;Boom&lt;/b&gt;</summary>" in text


def test_scores_of_another_benchmark_are_refused(page: Path, finished: Path) -> None:
    rows = read_scores(page.with_name("scores.parquet")).rows
    exchanged = [{**row, "run": 1 - row["run"]} for row in rows]
    write_scores(page.with_name("others.parquet"), ScoreTable({}, exchanged))
    refused = pytest.raises(ConfigError, match="is of another benchmark")
    with Benchmark(finished / "dtb.h5") as benchmark, refused:
        report(benchmark, page.with_name("others.parquet"))


def test_any_other_table_is_no_file_of_scores(tmp_path: Path, finished: Path) -> None:
    pandas.DataFrame({"run": [0], "wot": [1.0]}).to_parquet(tmp_path / "scores.parquet")
    refused = pytest.raises(NotDTBFileError, match="is not a file of scores")
    with Benchmark(finished / "dtb.h5") as benchmark, refused:
        report(benchmark, tmp_path / "scores.parquet")


def test_report_writes_beside_the_benchmark(
    finished: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(finished / "dtb.h5", tmp_path / "dtb.h5")
    assert dtb("report", tmp_path / "dtb.h5") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1e6  # plotly is inside


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real Chromium without a window."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium with its chromedriver here")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.add_argument("--window-size=1200,1400")
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def click(browser: Any, section: int, point: int) -> str:
    """Click a point of a plot's first trace; returns the genotype that the page then shows."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    plot = browser.find_elements(By.CSS_SELECTOR, ".js-plotly-plot")[section]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    x, y = browser.execute_script(
        "const p = arguments[0], i = arguments[1], t = p.data[0], l = p._fullLayout;"
        "return [l.xaxis.d2p(t.x ? t.x[i] : i) + l.xaxis._offset,"
        "        l.yaxis.d2p(t.y[i]) + l.yaxis._offset];",
        plot,
        point,
    )
    middle = plot.size["width"] / 2, plot.size["height"] / 2
    ActionChains(browser).move_to_element_with_offset(
        plot, round(x - middle[0]), round(y - middle[1])
    ).pause(0.3).click().perform()
    shown = WebDriverWait(browser, 10).until(lambda driver: driver.find_elements(By.ID, "genotype"))
    return shown[0].text


def test_a_click_on_a_run_in_a_browser_shows_its_genotype(
    browser: Any, page: Path, finished: Path
) -> None:
    browser.get(page.as_uri())
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    with Benchmark(finished / "dtb.h5") as benchmark:
        (best,) = benchmark.top(1, by="valid_accuracy", epoch=-1)
        assert click(browser, section=0, point=3) == str(best.genotype)
        first = next(iter(benchmark))
        assert click(browser, section=1, point=0) == str(first.genotype)
    severe = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert severe == []
    assert np.frombuffer(browser.get_screenshot_as_png(), np.uint8).size > 10_000
