import re
from pathlib import Path

import numpy as np

from dtb_builder.stages.ranking.page import write_page
from dtb_builder.stages.ranking.population import Population
from dtb_builder.stages.ranking.rank import Ranking, rank


def ranking(num_scores: int = 12) -> Ranking:
    rng = np.random.default_rng(0)
    population = Population(
        networks=tuple(map(str, range(20))),
        epoch=0,
        step=0,
        accuracies=rng.random(20),
        num_parameters=rng.random(20),
        input_edges=rng.integers(2, 9, 20).astype(float),
        scores={f"score{i}": rng.random(20) for i in range(num_scores)},
        train_seconds=1.0,
    )
    return rank([population], seed=0, num_resamples=50)


def page(tmp_path: Path, made: Ranking) -> str:
    file = tmp_path / "rank.html"
    about = {"trained": {"recipe": {"num_epochs": 12}}}
    write_page(file, made, about, title="A <title>", notes=("said & first",))
    return re.sub(r"<script>.*?plotly.*?</script>", "", file.read_text(), count=1, flags=re.S)


def test_title_and_notes_come_first_then_the_table_the_plot_and_the_recipe(tmp_path: Path) -> None:
    text = page(tmp_path, ranking())
    wanted = ("<h1>A &lt;title&gt;", "<p>said &amp; first", "<tbody>", 'id="ranking"', "num_epochs")
    places = [text.index(each) for each in wanted]
    assert places == sorted(places)


def test_the_table_has_every_score_with_its_intervals_and_what_to_sort_by(tmp_path: Path) -> None:
    made = ranking()
    rows = re.findall(r"<tr><td.*?</tr>", page(tmp_path, made))
    assert len(rows) == len(made.ranked)
    for row, ranked in zip(rows, made.ranked, strict=True):
        assert f'data-value="{ranked.tau.value}">' in row
        assert f"[{ranked.tau.low:.3f}, {ranked.tau.high:.3f}]" in row


def test_each_series_has_a_colour_of_its_own(tmp_path: Path) -> None:
    text = page(tmp_path, ranking(30))
    colours = re.findall(r'"line":\{"color":"(hsl\([^"]*)"', text)
    assert len(set(colours)) == len(colours) == 30
