"""What docs/ says is true: commands and calls run, messages exist, the site is built.

Examples of pages are doctests; pytest collects them itself.
"""

import ast
import importlib
import inspect
import json
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import dtb_builder
from dtb_builder import Benchmark, Budget
from dtb_builder.adapters.naslib import naslib_api
from dtb_builder.cli import main
from dtb_builder.space import mutate, sample_uniform
from dtb_builder.space.configuration import configuration_of
from dtb_builder.space.encoding import adjacency_one_hot, compact, from_compact

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REPOSITORY = "https://github.com/darts-training-bench/darts-training-bench"
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


def run_commands(page: str) -> None:
    for name, *rest in commands(page):
        tiny = TINY if "experiment=quickstart" in rest else ()
        assert main([name, *rest, *tiny, *QUICK.get(name, ())]) == 0, (name, rest)


def rows(page: str) -> Iterator[list[str]]:
    """The cells of a page's tables, their heads left out."""
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("| ") and not line.startswith(("| You want |", "| Message |")):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


PAGES = sorted(page.name for page in DOCS.glob("*.md"))
WITH_COMMANDS = [
    page for page in PAGES if page not in ("start.md", "your_own_score.md") and any(commands(page))
]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder on which every command of the first page was run."""
    folder = tmp_path_factory.mktemp("start")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_commands("start.md")
    return folder / "runs" / "quickstart"


@pytest.fixture
def runs_mine(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a benchmark in runs/mine."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(started, "runs/mine")
    return tmp_path


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_of_a_page_runs(page: str, runs_mine: Path) -> None:
    run_commands(page)


def test_the_blocks_of_your_own_score_are_a_module_and_a_program(
    runs_mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(runs_mine)])
    page = (DOCS / "your_own_score.md").read_text()
    module, program = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    Path("mine.py").write_text(module)
    run_commands("your_own_score.md")
    ranked = json.loads(Path("runs/mine/rank.json").read_text())["ranked"]
    assert "relu_codes" in {row["score"] for row in ranked}
    found: dict[str, Any] = {}
    exec(program, found)
    assert found["table"]["mine"].notna().all()
    sys.modules.pop("mine")


def test_every_call_beside_another_benchmarks_runs() -> None:
    functions = (adjacency_one_hot, compact, configuration_of, from_compact, mutate, naslib_api)
    names: dict[str, Any] = {f.__name__: f for f in (*functions, sample_uniform, Benchmark, Budget)}
    with Benchmark.example() as bench:
        names |= {"bench": bench, "run": bench[0], "genotype": bench[0].genotype}
        names |= {"path": bench.path, "random": random.Random(0)}
        calls = [row[2] for row in rows("coming_from.md") if len(row) == 3 and row[2][0] == "`"]
        for call in calls:
            assert eval(call.strip("`"), names) is not None, call
        assert len(calls) > 25


def test_every_message_that_a_page_explains_is_one_of_the_packages() -> None:
    texts = {
        text(node)
        for file in (ROOT / "dtb_builder").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
    }
    explained = [row[0] for row in rows("troubleshooting.md")]
    messages = [message for cell in explained for message in re.findall("`(.*?)`", cell)]
    assert len(messages) > 40
    assert not [m for m in messages if not any(m in text for text in texts)]


def text(node: ast.AST) -> str:
    """The text of a literal, ``...`` for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text, node.values))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "..."


def test_every_name_of_the_reference_has_an_example() -> None:
    """Its own, or, of a class, one for each of its members."""
    names = re.findall(r"^::: (\S+)", (DOCS / "api.md").read_text(), flags=re.MULTILINE)
    last = {name.rpartition(".")[2] for name in names}
    assert set(dtb_builder.__all__) <= last | {"NAMED", "DTBError", "__version__"}
    for name in names:
        module, _, shown = name.rpartition(".")
        face = getattr(importlib.import_module(module), shown)
        if inspect.ismodule(face) or shown == "tabular_blackbox":  # Syne Tune is in no extra
            continue
        members = [
            value
            for member, value in (vars(face).items() if inspect.isclass(face) else ())
            if not member.startswith("_")
            and (isinstance(value, property) or inspect.isroutine(inspect.unwrap(value)))
        ]
        has_example = [">>> " in (inspect.getdoc(each) or "") for each in (face, *members)]
        assert has_example[0] or (members and all(has_example[1:])), name


def test_the_notebook_runs_and_was_saved_with_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    file = ROOT / "examples" / "first_look.ipynb"
    notebook = nbformat.read(file, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [[output.output_type for output in cell.outputs] for cell in cells]
    assert all(shown)
    assert file.stat().st_size < 300_000
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    assert [[output.output_type for output in cell.outputs] for cell in cells] == shown


def test_links_into_the_repository_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for path in re.findall(
            rf"{REPOSITORY}/(?:blob|tree|raw)/main/([^)#\s]+)", page.read_text()
        ):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_every_launcher_that_a_page_names_is_there() -> None:
    for page in DOCS.glob("*.md"):
        for name in re.findall(r"jobs/[\w/]+\.(?:sh|yaml)", page.read_text()):
            assert (ROOT / name).is_file(), name


def test_the_site_is_built_strictly_and_needs_no_network(tmp_path: Path) -> None:
    """A page outside the navigation, a dead link or a reference to nothing fails the build."""
    mkdocs = (sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict")
    done = subprocess.run([*mkdocs, "--site-dir", tmp_path], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    loads = re.compile(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    for page in tmp_path.rglob("*.html"):
        assert not [tag for tag in loads.findall(page.read_text()) if 'rel="canonical"' not in tag]
    assert "Draw a genotype uniformly" in (tmp_path / "api" / "index.html").read_text()
