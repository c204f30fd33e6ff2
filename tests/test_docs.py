"""Every command that the pages in docs/ show is run, in the order of its page.

But for those of querying.md, whose examples are doctests.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dtb_builder import Benchmark
from dtb_builder.cli import main
from dtb_builder.dataset.subset import subset

DOCS = Path(__file__).parents[1] / "docs"
COMMANDS_ALONE = ("generating.md", "publishing.md", "bring_your_own.md", "scores.md")
PAGES = (*COMMANDS_ALONE, "your_own_score.md")
# Two runs that take no time; whatever they train is not what a page is about.
TINY = (
    "images.num_valid=1300",
    "network.channels=2",
    "network.layers=2",
    "recipe.num_epochs=1",
    "space.num_genotypes=2",
    "shard_size=1",
)
SMALL_SEARCH = ("num_candidates=2", "num_random=2", "num_images=8", "cluster=serial")
QUICK = {
    "generate": ("cluster=serial",),
    "score": ("num_images=8", "num_reference=null", "cluster=serial"),
    "search": (*SMALL_SEARCH, *TINY[:4]),
}


def commands(page: str) -> Iterator[list[str]]:
    """The lines of a page's bash blocks, in words."""
    text = (DOCS / page).read_text()
    for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            assert words[0] == "dtb", f"{page}: only dtb can be run here, not {line!r}"
            yield words[1:]


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", COMMANDS_ALONE)
def test_every_command_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if page == "scores.md":
        assert main(["generate", "runs/mine", *TINY, "cluster=serial"]) == 0
        assert main(["merge", "runs/mine"]) == 0
    for name, *rest in commands(page):
        tiny = TINY if "experiment=quickstart" in rest else ()
        assert main([name, *rest, *tiny, *QUICK.get(name, ())]) == 0, (name, rest)


def test_the_blocks_of_your_own_score_are_a_module_and_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of the page, on the benchmark inside the package, then its second block."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    module, program = python_blocks("your_own_score.md")
    Path("mine.py").write_text(module)
    assert len(module.splitlines()) <= 20
    Path("runs/mine").mkdir(parents=True)
    with Benchmark.example() as example:
        subset(example, [0, 4, 6], into="runs/mine/dtb.h5", states="ends")
    for name, *rest in commands("your_own_score.md"):
        assert main([name, *rest, *QUICK.get(name, ())]) == 0
    ranked = json.loads(Path("runs/mine/rank.json").read_text())["ranked"]
    assert "relu_codes" in {row["score"] for row in ranked}
    found: dict[str, Any] = {}
    exec(program, found)
    assert found["table"]["mine"].notna().all()
    sys.modules.pop("mine")


def test_every_launcher_that_a_page_names_is_there() -> None:
    for page in PAGES:
        for name in re.findall(r"jobs/[\w/]+\.(?:sh|yaml)", (DOCS / page).read_text()):
            assert (DOCS.parent / name).is_file(), name


def test_the_pages_are_where_readme_says() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    for page in PAGES:
        assert f"docs/{page}" in readme
