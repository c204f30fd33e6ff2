import subprocess
import sys
import tomllib
from pathlib import Path

import dtb_builder

ROOT = Path(__file__).parents[1]


def test_the_face_is_this_and_no_more() -> None:
    assert dtb_builder.__all__ == [
        "NAMED",
        "Benchmark",
        "Budget",
        "DTBError",
        "Evaluation",
        "Genotype",
        "Run",
        "__version__",
        "errors",
        "score_states",
    ]


def test_the_version_is_that_of_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert dtb_builder.__version__ == settings["project"]["version"]


def test_importing_stays_light() -> None:
    heavy = {"torch", "ray", "hydra", "omegaconf", "pandas", "scipy", "sklearn", "yaml"}
    code = f"import sys, dtb_builder; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_metrics_for_ray_wait_for_ray_to_be_set_up() -> None:
    """Imported before RAY_AUTH_MODE is set, Ray refuses its own token."""
    code = "import sys, dtb_builder.stages.generation.ray_metrics; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_error_is_a_dtb_error() -> None:
    for name in dtb_builder.errors.__all__:
        assert issubclass(getattr(dtb_builder.errors, name), dtb_builder.DTBError)


def test_every_package_is_shipped() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "dtb_builder").rglob("__init__.py")
    }
    assert set(settings["tool"]["setuptools"]["packages"]) == found | {
        "dtb_builder.conf",
        "dtb_builder.jobs",
    }


def test_every_tested_version_satisfies_what_the_package_asks_for() -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        asked.extend(extra)
    names = {name.partition(">")[0].partition("[")[0].lower() for name in asked}
    assert {name.replace("_", "-") for name in names} <= pinned


def test_what_is_not_found_is_a_key_error_with_plain_words() -> None:
    for name in ("NotFoundError", "NoSuchRunError", "NotMeasuredError", "StateNotKeptError"):
        error = getattr(dtb_builder.errors, name)("no epoch 9")
        assert isinstance(error, KeyError)
        assert str(error) == "no epoch 9"
