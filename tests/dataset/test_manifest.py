"""A published folder's list of hashes: what it names, whatever lies there."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dtb_builder.dataset.manifest import MANIFEST, verify_manifest, write_manifest
from dtb_builder.errors import DamagedFileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "published"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_text("a")
    (made / "sub" / "b.txt").write_text("b")
    write_manifest(made)
    return made


def _wrong(folder: Path) -> dict[str, str]:
    return {found.record: found.error for found in verify_manifest(folder) if found.error}


def _linked(file: Path, elsewhere: Path) -> None:
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere)


def _pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: _linked(f / "a.txt", f.parent / "a"), {"a.txt": "it is a link"}),
        (lambda f: _linked(f / "sub", f.parent / "sub"), {"sub/b.txt": "in a linked folder"}),
        (lambda f: (f / "more").symlink_to("/etc"), {"more": "does not list it"}),
        (lambda f: _pipe(f / "a.txt"), {"a.txt": "a pipe or a device"}),
        (lambda f: _pipe(f / "more"), {"more": "does not list it"}),
        (lambda f: shutil.copytree(f / "sub", f / "a.txt.d"), {"a.txt.d/b.txt": "not list it"}),
        (lambda f: (f / "a.txt").write_text("b"), {"a.txt": "its SHA-256 is"}),
    ],
)
def test_what_is_no_file_of_the_folder_is_named_and_not_read(
    change: Callable[[Path], object], named: dict[str, str], folder: Path
) -> None:
    assert _wrong(folder) == {}
    change(folder)
    wrong = _wrong(folder)
    assert {name for name in named if named[name] in wrong[name]} == set(named)
    assert all("does not list it" in wrong[name] for name in wrong.keys() - named.keys())


def test_the_list_is_read_as_sha256sum_reads_it(folder: Path) -> None:
    (folder / "two\nlines\\.txt").write_text("odd")
    write_manifest(folder)
    shown = subprocess.run(["sha256sum", "--check", MANIFEST], cwd=folder, capture_output=True)
    assert (shown.returncode, _wrong(folder)) == (0, {})
    lines = (folder / MANIFEST).read_text().split("\n")
    changed = [lines[0].replace("  ", " *"), lines[1].upper().replace("SUB/B.TXT", "sub/b.txt")]
    (folder / MANIFEST).write_text("\n\n".join([*changed, *lines[2:]]))
    assert _wrong(folder) == {}
    (folder / MANIFEST).write_text("\n".join([f"{'0' * 64}  a.txt", *lines]))
    said = [found.error for found in verify_manifest(folder) if found.record == "a.txt"]
    assert [error and error[:14] for error in said] == ["its SHA-256 is", "SHA256SUMS lis"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "text"])
def test_what_is_no_list_is_refused(kind: str, folder: Path) -> None:
    file = folder / MANIFEST
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "link":
        file.symlink_to("/etc/passwd")
    else:
        file.write_text(f"{'0' * 64}  ../../etc/passwd\n")
    with pytest.raises(DamagedFileError):
        list(verify_manifest(folder))


def test_the_links_of_the_hubs_cache_are_files(folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "repo" / "snapshots" / "abc", tmp_path / "repo" / "blobs"
    for path in (snapshot / "sub", blobs):
        path.mkdir(parents=True)
    for i, name in enumerate(("a.txt", "sub/b.txt", MANIFEST)):
        shutil.copy(folder / name, blobs / str(i))
        (snapshot / name).symlink_to(blobs / str(i))
    assert _wrong(snapshot) == {}
    (snapshot / "a.txt").unlink()
    (snapshot / "a.txt").symlink_to(folder / "a.txt")
    assert list(_wrong(snapshot)) == ["a.txt"]
