"""What is uploaded: metadata, extras and sources. `make wheels-test` installs it all."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from dtb_builder import extras

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Packages that are imported under another name than they are installed.
INSTALLED_AS = {"hydra": "hydra-core", "resvg_py": "resvg-py", "yaml": "pyyaml"}


def required(requirements: list[str]) -> set[str]:
    """The names of packages, without extras, versions and markers."""
    return {re.split(r"[\[<>=;]", one)[0].strip() for one in requirements}


def test_the_source_distribution_is_the_checkout(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--full-name"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (sources,) = tmp_path.glob("*.egg-info/SOURCES.txt")
    assert set(listed.stdout.splitlines()) - set(sources.read_text().splitlines()) == set()


def test_the_extra_that_an_error_names_brings_the_package() -> None:
    for package, extra in extras._EXTRAS.items():
        brings = required(PROJECT["optional-dependencies"][extra])
        assert INSTALLED_AS.get(package, package) in brings, f"{package} in [{extra}]"


def test_training_brings_nothing_that_only_pages_or_tests_need() -> None:
    brings = required(PROJECT["optional-dependencies"]["build"])
    assert brings.isdisjoint({"plotly", "resvg-py", "scikit-learn", "zstandard"})


def test_every_supported_python_is_tested_and_named() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text())
    tested = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    kind = "Programming Language :: Python :: "
    named = [one.removeprefix(kind) for one in PROJECT["classifiers"] if one.startswith(kind)]
    assert [one for one in named if "." in one] == tested
    assert PROJECT["requires-python"] == f">={tested[0]},<3.{int(tested[-1][2:]) + 1}"


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]


def test_a_package_index_can_show_the_readme() -> None:
    """A link or picture that is relative leads nowhere there."""
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / PROJECT["readme"]).read_text())
    assert targets
    assert [one for one in targets if not one.startswith("https://")] == []
