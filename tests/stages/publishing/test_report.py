"""The report: what stands in it, and that a browser shows it."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from browsing import look, settle
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from dtb_builder import Benchmark, Genotype, Run
from dtb_builder.errors import ConfigError, NotDTBFileError
from dtb_builder.scores.names import SCORES
from dtb_builder.stages.publishing import figures
from dtb_builder.stages.publishing.figures import MOST_RUNS, benchmark_figures, score_figures
from dtb_builder.stages.publishing.report import report
from dtb_builder.stages.scoring.fingerprint import fingerprint
from dtb_builder.stages.scoring.table import ScoreTable, read_scores, seconds_name, write_scores

Dtb = Callable[..., int]


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


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the example benchmark, with scores that somebody made up."""
    folder = tmp_path_factory.mktemp("report")
    with Benchmark.example() as benchmark:
        made = ScoreTable({}, [made_up(run, epoch) for run in benchmark for epoch in (0, None, 3)])
        write_scores(folder / "scores.parquet", made)
        (folder / "report.html").write_bytes(report(benchmark, folder / "scores.parquet"))
    return folder / "report.html"


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data"[^>]*>(.*?)</script>', page.read_text())
    assert found is not None
    return json.loads(found[1])


def genotype_of(code: str) -> Genotype:
    return Genotype.from_array(np.array(list(map(int, code))).reshape(2, 8, 2))


def test_moments_are_in_the_order_in_which_they_were_reached(page: Path) -> None:
    assert data_of(page)["scores"]["moments"] == ["epoch 0", "step 5", "epoch 3"]


def test_every_run_stands_in_the_page_with_its_genotype(page: Path) -> None:
    shown = data_of(page)
    with Benchmark.example() as benchmark:
        numbers = dict(zip(shown["number"], shown["genotype"], strict=True))
        assert {n: str(genotype_of(code)) for n, code in numbers.items()} == {
            run.number: str(run.genotype) for run in benchmark
        }


def test_title_recipe_seeds_states_and_versions_come_first(page: Path) -> None:
    text = page.read_text()
    wanted = ("<h1>digits: 6 DARTS genotypes, 12 runs of 5 epochs", "batch size 64", "Seeds")
    wanted += ("after epochs 0, 1, 3, 4, 5 and step 10", "torch 2", "Learning curves")
    places = [text.index(each) for each in wanted]
    assert places == sorted(places)


def test_each_metric_has_the_spread_over_seeds() -> None:
    with Benchmark.example() as benchmark:
        made = benchmark_figures(benchmark)["metrics"]
        for name in ("valid_accuracy", "test_loss"):
            means = benchmark.mean(name, epoch=-1)
            assert made[name]["seeds"]["mean"] == pytest.approx(sorted(means.mean), rel=1e-4)
            within = np.sqrt((means.deviation**2).mean())
            assert made[name]["seeds"]["within"] == pytest.approx(within, rel=1e-4)


def test_seconds_are_summed_and_what_was_not_measured_is_missing() -> None:
    with Benchmark.example() as benchmark:
        made = benchmark_figures(benchmark)
        seconds = benchmark.array("train_seconds").sum(axis=1)
    assert made["metrics"]["train_seconds"]["epochs"] == [1, 2, 3, 4, 5]
    assert sorted(made["metrics"]["train_seconds"]["last"]) == pytest.approx(
        sorted(seconds), rel=1e-4
    )
    assert made["kept"] == [0, 0.5, 1, 3, 4, 5]


def test_a_sample_has_the_best_and_the_worst_run_and_histograms_count_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(figures, "MOST_RUNS", 5)
    with Benchmark.example() as benchmark:
        made = benchmark_figures(benchmark)
        ranked = [run.number for run in benchmark.top(12, by="valid_accuracy", epoch=-1)]
    assert len(made["number"]) == 5
    assert (made["number"][0], made["number"][-1]) == (ranked[0], ranked[-1])
    assert sum(made["metrics"]["valid_accuracy"]["histogram"]["counts"]) == 12


def test_a_page_of_any_number_of_runs_has_less_than_15_megabytes(page: Path) -> None:
    shown = data_of(page)
    of_runs = [shown[name] for name in ("number", "seed", "parameters", "genotype")]
    of_runs += [metric["last"] for metric in shown["metrics"].values()]
    per_run = len(json.dumps(of_runs)) / len(shown["number"])
    assert page.stat().st_size + MOST_RUNS * per_run < 12e6  # the rest is for curves and scores


def test_the_page_asks_the_network_for_nothing(page: Path) -> None:
    markup = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=""", markup.replace('xlink:href="#', ""))
    assert "default-src 'none'" in markup


def test_failures_are_listed_with_their_traceback(monkeypatch: Any) -> None:
    from dtb_builder.dataset.store import FailedRun

    with Benchmark.example() as benchmark:
        genotype = benchmark.run(0).genotype
        failure = FailedRun(
            number=7,
            genotype=genotype,
            seed=3,
            order_seed=4,
            attempts=2,
            message="Traceback\n<b>Boom</b>",
        )
        monkeypatch.setattr(Benchmark, "failures", (failure,))
        text = report(benchmark).decode()
    assert "<summary>&lt;b&gt;Boom&lt;/b&gt;</summary>" in text


def test_a_row_that_failed_moves_no_moment_to_the_front(page: Path) -> None:
    rows = read_scores(page.with_name("scores.parquet")).rows
    failed = [
        {**row, "step": None} if (row["run"], row["epoch"]) == (3, 3) else row for row in rows
    ]
    write_scores(page.with_name("failed.parquet"), ScoreTable({}, failed))
    with Benchmark.example() as benchmark:
        found = score_figures(benchmark, page.with_name("failed.parquet"))
    assert found is not None
    assert found["moments"] == ["epoch 0", "step 5", "epoch 3"]


def test_scores_of_another_benchmark_are_refused(page: Path) -> None:
    rows = read_scores(page.with_name("scores.parquet")).rows
    exchanged = [{**row, "run": 11 - row["run"]} for row in rows]
    write_scores(page.with_name("others.parquet"), ScoreTable({}, exchanged))
    refused = pytest.raises(ConfigError, match="is of another benchmark")
    with Benchmark.example() as benchmark, refused:
        report(benchmark, page.with_name("others.parquet"))


def test_any_other_table_is_no_file_of_scores(tmp_path: Path) -> None:
    pandas.DataFrame({"run": [0], "wot": [1.0]}).to_parquet(tmp_path / "scores.parquet")
    refused = pytest.raises(NotDTBFileError, match="is not a file of scores")
    with Benchmark.example() as benchmark, refused:
        report(benchmark, tmp_path / "scores.parquet")


def test_a_report_needs_what_its_extra_brings_and_no_more(page: Path) -> None:
    lines = """
        import sys, pathlib
        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name in ("dacite", "hdf5plugin", "hydra", "pandas", "ray", "torch", "yaml"):
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Missing())
        from dtb_builder import Benchmark
        from dtb_builder.stages.publishing.report import report
        with Benchmark.example() as benchmark:
            sys.stdout.buffer.write(report(benchmark, pathlib.Path(sys.argv[1])))
    """
    command = [sys.executable, "-c", textwrap.dedent(lines), page.with_name("scores.parquet")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == page.read_bytes()


def test_report_writes_beside_the_benchmark(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    with Benchmark.example() as benchmark:
        shutil.copy(benchmark.path, tmp_path / "dtb.h5")
    assert dtb("report", tmp_path / "dtb.h5") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1e6  # plotly is inside


def click(browser: Any, name: str, x: str, y: str) -> str:
    """Click a point of a plot, by JavaScript of its place; returns the genotype then shown."""

    plot = browser.find_element(By.ID, name)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    settle(browser)
    place = browser.execute_script(
        "const l = arguments[0]._fullLayout, data = arguments[0].data;"
        f"return [l.xaxis.d2p({x}) + l.xaxis._offset, l.yaxis.d2p({y}) + l.yaxis._offset];",
        plot,
    )
    middle = plot.size["width"] / 2, plot.size["height"] / 2
    ActionChains(browser).move_to_element_with_offset(
        plot, round(place[0] - middle[0]), round(place[1] - middle[1])
    ).pause(0.3).click().perform()
    shown = WebDriverWait(browser, 10).until(lambda driver: driver.find_elements(By.ID, "genotype"))
    return shown[0].text


def test_a_click_on_a_run_in_a_browser_shows_its_genotype(browser: Any, page: Path) -> None:
    look(browser, 1440)
    browser.get(page.as_uri())
    settle(browser)
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    with Benchmark.example() as benchmark:
        best, *_, worst = benchmark.top(12, by="valid_accuracy", epoch=-1)
        assert click(browser, "points", "data[0].x.at(-1)", "data[0].y.at(-1)") == str(
            worst.genotype
        )
        highest = best.metric("valid_accuracy", epoch=-1)
        assert click(browser, "curves", "5", str(highest)) == str(best.genotype)
    severe = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert severe == []


def test_the_menu_of_metrics_changes_every_figure(browser: Any, page: Path) -> None:
    look(browser, 1440, height=4000)
    browser.get(page.as_uri())
    settle(browser)
    menu = Select(browser.find_element(By.ID, "metric"))
    names = [option.text for option in menu.options]
    assert names[:3] == ["valid_accuracy", "test_accuracy", "train_accuracy"]
    assert {"valid_loss", "test_loss", "train_loss", "train_seconds"} < set(names)
    menu.select_by_visible_text("test_loss")
    titles = browser.execute_script(
        "return ['curves', 'seeds', 'points'].map(id => document.querySelector("
        "`#${id} .g-ytitle`).textContent)"
    )
    assert titles == ["test_loss"] * 3
    assert "test_loss has a standard deviation" in browser.find_element(By.ID, "spread").text


def test_a_finger_on_a_plot_scrolls_the_page(browser: Any, page: Path) -> None:
    def touch(kind: str, *heights: int) -> None:
        points = [{"x": 400, "y": height} for height in heights]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    look(browser, 820)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    browser.get(page.as_uri())
    settle(browser)
    plot = browser.find_element(By.ID, "curves")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    before = browser.execute_script("return scrollY")
    touch("touchStart", 450)
    for height in range(440, 240, -20):
        touch("touchMove", height)
    touch("touchEnd")
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert browser.execute_script("return scrollY") > before + 100


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_a_report_can_be_read_at_this_width_and_in_this_theme(
    browser: Any, page: Path, width: int, dark: bool
) -> None:
    look(browser, width, dark=dark, height=6000)
    if browser.current_url != page.as_uri():
        browser.get(page.as_uri())
    settle(browser)
    seen = browser.execute_script(
        "const style = getComputedStyle(document.body);"
        "const ticks = document.querySelectorAll('#curves .xtick text');"
        "return {wide: document.documentElement.scrollWidth, text: style.color,"
        "  page: style.backgroundColor, epochs: [...ticks].map(each => each.textContent),"
        "  ink: getComputedStyle(ticks[0]).fill,"
        "  plots: [...document.querySelectorAll('.plot')].map(each => each.clientWidth"
        "          - each.querySelector('.main-svg').clientWidth)}"
    )
    assert seen["wide"] == width
    assert seen["epochs"] == ["0", "1", "2", "3", "4", "5"]
    assert (lightness(seen["page"]) < 0.2) == dark == (lightness(seen["text"]) > 0.8)
    assert lightness(seen["ink"]) == pytest.approx(lightness(seen["text"]), abs=0.01)
    assert set(seen["plots"]) == {0}
    assert len(seen["plots"]) == 7


def lightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / (3 * 255)
