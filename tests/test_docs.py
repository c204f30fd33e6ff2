"""Every command that the pages in docs/ show is run, in the order of its page.

But for those of querying.md, whose examples are doctests.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtb_builder.cli import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("generating.md", "publishing.md", "bring_your_own.md", "scores.md")
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


@pytest.mark.parametrize("page", PAGES)
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


def test_every_launcher_that_a_page_names_is_there() -> None:
    for page in PAGES:
        for name in re.findall(r"jobs/[\w/]+\.(?:sh|yaml)", (DOCS / page).read_text()):
            assert (DOCS.parent / name).is_file(), name


def test_the_pages_are_where_readme_says() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    for page in PAGES:
        assert f"docs/{page}" in readme
