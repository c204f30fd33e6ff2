import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import look, settle
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from dtb_builder.stages.ranking.page import write_page
from dtb_builder.stages.ranking.population import Population
from dtb_builder.stages.ranking.rank import Ranking, rank
from dtb_builder.stages.work.html_page import series_colours


@cache
def ranking() -> Ranking:
    rng = np.random.default_rng(0)
    populations = [
        Population(
            networks=tuple(map(str, range(20))),
            epoch=epoch,
            step=10 * epoch,
            accuracies=rng.random(20),
            num_parameters=rng.random(20),
            input_edges=rng.integers(2, 9, 20).astype(float),
            scores={f"score{i}": rng.random(20) for i in range(6)},
            train_seconds=1.0 + epoch,
        )
        for epoch in (0, 2)
    ]
    return rank(populations, seed=0, num_resamples=50)


def page(tmp_path: Path, made: Ranking) -> str:
    file = tmp_path / "rank.html"
    about = {"trained": {"recipe": {"num_epochs": 12}}, "by": "x", "resamples": 50, "seed": 0}
    write_page(file, made, about, title="A <title>", notes=("said & first",))
    return re.sub(r"<script>.*?plotly.*?</script>", "", file.read_text(), count=1, flags=re.S)


def test_title_recipe_and_notes_come_first_then_the_table_and_the_plot(tmp_path: Path) -> None:
    text = page(tmp_path, ranking())
    wanted = (
        "<h1>A &lt;title&gt;",
        "num epochs 12",
        "<p>said &amp; first",
        "<tbody>",
        'id="costs"',
    )
    places = [text.index(each) for each in wanted]
    assert places == sorted(places)


def test_the_table_has_every_score_with_its_intervals_and_what_to_sort_by(tmp_path: Path) -> None:
    made = ranking()
    rows = re.findall(r"<tr><td.*?</tr>", page(tmp_path, made))
    assert len(rows) == len(made.ranked)
    for row, ranked in zip(rows, made.ranked, strict=True):
        assert f'data-value="{ranked.tau.value}">' in row
        assert f"[{ranked.tau.low:.3f}, {ranked.tau.high:.3f}]" in row


def test_each_series_has_a_colour_of_its_own() -> None:
    colours = series_colours([f"score{i}" for i in range(200)])
    assert len(set(colours.values())) == len(colours) == 200


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("rank")
    page(folder, ranking())
    look(browser, 1440, height=2500)
    browser.get((folder / "rank.html").as_uri())
    settle(browser)
    return browser


SHOWN_ROWS = "[...document.querySelectorAll('tbody tr')].filter(row => !row.hidden)"


def column(browser: Any, i: int) -> list[str]:
    return browser.execute_script(f"return {SHOWN_ROWS}.map(row => row.cells[{i}].dataset.value)")


def test_a_menu_chooses_the_moment(opened: Any) -> None:
    assert set(column(opened, 0)) == {"epoch 0"}
    menu = Select(opened.find_element(By.ID, "moment"))
    menu.select_by_visible_text("epoch 2")
    assert set(column(opened, 0)) == {"epoch 2"}
    menu.select_by_visible_text("every moment")
    assert len(column(opened, 0)) == 12
    menu.select_by_visible_text("epoch 0")


def test_headings_sort_by_mouse_and_by_keyboard(opened: Any) -> None:
    taus = [float(each) for each in column(opened, 2)]
    assert taus == sorted(taus, reverse=True)
    rho = opened.find_element(By.XPATH, "//th/button[text()='rho']")
    rho.click()
    rhos = [float(each) for each in column(opened, 4)]
    assert rhos == sorted(rhos, reverse=True)
    rho.send_keys(Keys.ENTER)
    assert [float(each) for each in column(opened, 4)] == sorted(rhos)
    heads = opened.find_elements(By.CSS_SELECTOR, "th[aria-sort]:not([aria-sort=none])")
    assert [(head.text, head.get_attribute("aria-sort")) for head in heads] == [
        ("rho", "ascending")
    ]
    opened.find_element(By.XPATH, "//th/button[text()='score']").send_keys(Keys.SPACE)
    assert column(opened, 1) == [f"score{i}" for i in range(6)]


def test_a_button_shows_a_series(opened: Any) -> None:
    def drawn() -> list[str]:
        return opened.execute_script(
            "return document.getElementById('costs').data.map(each => each.name)"
        )

    before = drawn()
    button = opened.find_element(By.XPATH, "//div[@id='series']/button[@aria-pressed='false']")
    button.click()
    assert set(drawn()) == {*before, button.text}
    assert button.get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_a_ranking_can_be_read_at_this_width_and_in_this_theme(
    opened: Any, width: int, dark: bool
) -> None:
    look(opened, width, dark=dark, height=2500)
    settle(opened)
    seen = opened.execute_script(
        "const box = document.querySelector('#scores').getBoundingClientRect();"
        f"const name = {SHOWN_ROWS}[0].cells[1], style = getComputedStyle(name);"
        "document.querySelector('#scores').scrollLeft = 1000;"
        "return {wide: document.documentElement.scrollWidth, page: style.backgroundColor,"
        "  text: style.color, ink: getComputedStyle(document.querySelector('.xtick text')).fill,"
        "  name: name.getBoundingClientRect().left - box.left}"
    )
    assert seen["wide"] == width
    assert 0 <= seen["name"] < 2  # the name stays when the table is scrolled
    assert seen["ink"] == seen["text"]
    assert (seen["page"] == "rgb(20, 20, 20)") == dark
    assert [each for each in opened.get_log("browser") if each["level"] == "SEVERE"] == []
