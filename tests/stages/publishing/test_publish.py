"""A folder to upload, and what a downloader finds out about it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml

from dtb_builder import Benchmark
from dtb_builder.stages.publishing import publish

Dtb = Callable[..., int]
ABOUT = (
    *("--name", "Tiny", "--author", "A. One", "--author", "B. Two"),
    *("--licence", "CC-BY-4.0", "--url", "https://example.org/tiny"),
)


@pytest.fixture(scope="module")
def published(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny benchmark, in volumes, published; not to be written to."""
    from dtb_builder.cli import main

    run = tmp_path_factory.mktemp("volumes") / "run"
    shutil.copytree(finished, run)
    assert main(["merge", str(run), "volume_size=1"]) == 0
    folder = tmp_path_factory.mktemp("published") / "tiny"
    command = ["publish", str(run / "dtb.h5"), "--into", str(folder), *ABOUT, "--dry-run"]
    assert main(command) == 0
    return folder


def test_a_published_folder_has_all_that_was_asked_for(published: Path) -> None:
    names = {file.name for file in published.iterdir()}
    assert names >= {
        "dtb.h5",
        "epochs.parquet",
        "README.md",
        "LICENSE",
        "CITATION.cff",
        "croissant.json",
        "report.html",
        "best.svg",
        "SHA256SUMS",
    }
    assert sum(name.startswith("states-") for name in names) == 2


def test_what_was_published_reads_like_what_was_made(published: Path, finished: Path) -> None:
    with Benchmark(published / "dtb.h5") as copy, Benchmark(finished / "dtb.h5") as made:
        state = copy.run(1).training_state(epoch=2).values
        assert (state == made.run(1).training_state(epoch=2).values).all()
        frame = pandas.read_parquet(published / "epochs.parquet")
        pandas.testing.assert_frame_equal(frame, made.to_dataframe(), check_dtype=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what mlcroissant itself uses
def test_croissant_leads_to_the_rows(published: Path) -> None:
    import mlcroissant as mlc

    described: Any = mlc.Dataset(jsonld=published / "croissant.json")
    assert not described.metadata.issues.errors
    rows = list(described.records("epochs"))
    assert len(rows) == 2 * 4
    assert rows[5]["epochs/epoch"] == 1


def test_the_card_has_settings_that_the_hub_reads_recipe_and_figures(published: Path) -> None:
    _, front, page = (published / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "cc-by-4.0"
    recipe = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    assert recipe["recipe"]["num_epochs"] == 3
    assert "| training states | 12 |" in page
    citation = yaml.safe_load((published / "CITATION.cff").read_text())
    assert [author["name"] for author in citation["authors"]] == ["A. One", "B. Two"]


def test_the_example_of_the_card_runs(
    published: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(published)
    code = (published / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(code, {})
    assert "Genotype(" in capsys.readouterr().out


def test_verify_finds_a_folder_whole(
    published: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("verify", published) == 0
    assert "10 records read, 0 damaged" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["changed", "gone", "added"])
def test_verify_names_what_is_not_as_published(
    what: str, published: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(published, tmp_path / "copy")
    file = folder / "epochs.parquet"
    if what == "changed":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif what == "gone":
        file.unlink()
    else:
        file = folder / "more.txt"
        file.write_text("")
    assert dtb("verify", folder) == 1
    assert f"damaged: {file.name}: " in capsys.readouterr().out


def test_a_list_of_hashes_that_leads_out_of_its_folder_is_refused(
    published: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(published, tmp_path / "copy")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n")
    assert dtb("verify", folder) == 2
    assert "expected a SHA-256 and a file here" in capsys.readouterr().err


def test_nothing_is_published_into_a_folder_that_is_in_use(
    published: Path, finished: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("publish", finished / "dtb.h5", "--into", published, *ABOUT, "--dry-run") == 2
    assert "is not empty" in capsys.readouterr().err


def test_nothing_is_published_into_the_current_folder(
    finished: Path,
    tmp_path: Path,
    dtb: Dtb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dtb("publish", finished, "--into", ".", *ABOUT, "--dry-run") == 2
    assert "--into . is the current folder" in capsys.readouterr().err


def test_an_upload_goes_to_the_hub_with_the_token(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    calls: list[Any] = []

    class Hub:
        def __init__(self, token: str | None) -> None:
            calls.append(token)

        def create_repo(self, name: str, **more: Any) -> None:
            calls.append((name, more))

        def upload_folder(self, **more: Any) -> str:
            calls.append(more["folder_path"])
            return "https://hub/there"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert publish.upload(published, "me/tiny", "secret") == "https://hub/there"
    expected = ("me/tiny", {"repo_type": "dataset", "exist_ok": True})
    assert calls == ["secret", expected, published]


def test_a_failed_publication_leaves_nothing_and_can_be_repeated(
    published: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(published, tmp_path / "copy")
    (volume, *_) = copy.glob("states-*.h5")
    aside = volume.rename(tmp_path / "aside")
    command = ("publish", copy / "dtb.h5", "--into", tmp_path / "new", *ABOUT, "--dry-run")
    assert dtb(*command) == 2
    assert f"{volume} is missing; it holds states of" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "aside"}
    aside.rename(volume)
    assert dtb(*command) == 0


@pytest.mark.parametrize(
    ("states", "example"),
    [
        (("states=none", "states.steps=[]"), None),
        (("states=none",), "best.state(step=5)"),
        (("states.epochs=[0,2]",), "best.state(epoch=2)"),
    ],
)
def test_the_example_of_the_card_is_of_a_state_that_there_is(
    states: tuple[str, ...],
    example: str | None,
    tmp_path: Path,
    generate: Dtb,
    dtb: Dtb,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert generate(tmp_path / "run", "space.num_genotypes=1", *states) == 0
    assert dtb("merge", tmp_path / "run") == 0
    command = ("publish", tmp_path / "run" / "dtb.h5", "--into", tmp_path / "new", *ABOUT)
    assert dtb(*command, "--dry-run") == 0
    card = (tmp_path / "new" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    assert ("training states, made" in card) == ("- training-states" in card) == bool(example)
    assert example in code if example is not None else "best.state" not in code
    monkeypatch.chdir(tmp_path / "new")
    exec(code, {})


def test_a_publication_has_an_address(
    published: Path, tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    about = [*ABOUT[:-1], "nowhere"]
    command = ("publish", published / "dtb.h5", "--into", tmp_path / "new", *about, "--dry-run")
    assert dtb(*command) == 2
    assert "--url must be an address such as https://" in capsys.readouterr().err


def test_a_killed_publication_beside_a_benchmark_does_not_stop_a_merge(
    tmp_path: Path, generate: Dtb, dtb: Dtb
) -> None:
    assert generate(tmp_path, "space.num_genotypes=1") == 0
    (tmp_path / ".published.0123456789abcdef.writing").mkdir()
    assert dtb("merge", tmp_path) == 0


@pytest.mark.parametrize("absolute", [True, False])
def test_what_is_published_of_linked_files_is_data(
    absolute: bool, finished: Path, tmp_path: Path, dtb: Dtb
) -> None:
    disk, run, folder = tmp_path / "disk", tmp_path / "run", tmp_path / "published"
    disk.mkdir()
    run.mkdir()
    shutil.copy(finished / "dtb.h5", disk)
    target = disk if absolute else Path("../disk")
    (run / "dtb.h5").symlink_to(target / "dtb.h5")
    assert dtb("publish", run / "dtb.h5", "--into", folder, *ABOUT, "--dry-run") == 0
    assert not [file for file in folder.rglob("*") if file.is_symlink()]
    shutil.rmtree(disk)
    assert dtb("verify", folder) == 0
