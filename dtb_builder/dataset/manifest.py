"""The list of a published folder's files with their SHA-256, in the format of ``sha256sum``."""

import re
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path, PurePosixPath

from dtb_builder.dataset.atomic import write_whole
from dtb_builder.dataset.verify import Checked
from dtb_builder.errors import DamagedFileError

__all__ = ["MANIFEST", "sha256_of", "verify_manifest", "write_manifest"]

MANIFEST = "SHA256SUMS"
"""The list's name; ``sha256sum --check SHA256SUMS`` reads it too."""


def sha256_of(file: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """Write the list of all files now in the folder and its subfolders."""
    lines = [_line(sha256_of(folder / name), name) for name in _names(folder)]
    write_whole(folder / MANIFEST, "".join(lines).encode())


def verify_manifest(folder: Path) -> Iterator[Checked]:
    """Check every listed file, and report files that are not listed.

    Links are reported and not followed, with one exception: in the cache of the Hugging Face Hub, a
    folder's files are links into its ``blobs``.

    Raises:
        FileNotFoundError: there is no list.
        DamagedFileError: the list cannot be read.
    """
    listed = _read(folder / MANIFEST)
    seen: set[str] = set()
    for wanted, name in listed:
        if name in seen:
            yield Checked(name, f"{MANIFEST} lists it twice")
        else:
            seen.add(name)
            yield Checked(name, _why_wrong(folder, name, wanted))
    for name in _names(folder):
        if name not in seen:
            yield Checked(name, f"{MANIFEST} does not list it")


def _why_wrong(folder: Path, name: str, wanted: str) -> str | None:
    file = folder / name
    try:
        if _leads_out(folder, name):
            return "it is a link, or in a linked folder: the data are elsewhere"
        if not file.exists():
            return "it is missing"
        if not file.is_file():
            return "it is a folder, a pipe or a device, not a file"
        found = sha256_of(file)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if found != wanted:
        return f"its SHA-256 is {found[:12]}, expected {wanted[:12]}"
    return None


def _leads_out(folder: Path, name: str) -> bool:
    """Whether a file is a link, or in a linked folder, other than those of the Hub's cache."""
    path = PurePosixPath(name)
    if not any((folder / part).is_symlink() for part in (path, *path.parents[:-1])):
        return False
    revision = folder.absolute()  # .../snapshots/REVISION
    blobs = revision.parents[1].resolve() / "blobs" if len(revision.parents) > 1 else None
    return revision.parent.name != "snapshots" or (folder / name).resolve().parent != blobs


def _names(folder: Path) -> list[str]:
    """The names of all files, except the list itself and hidden files and folders.

    Links, pipes and devices are included.
    """
    every = (file for file in folder.rglob("*") if file.is_symlink() or not file.is_dir())
    files = (file.relative_to(folder) for file in every)
    return sorted(
        file.as_posix()
        for file in files
        if file.as_posix() != MANIFEST and not any(part.startswith(".") for part in file.parts)
    )


def _line(digest: str, name: str) -> str:
    """A line as ``sha256sum`` writes it; a name with a line break or backslash is escaped."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else _ESCAPED}{digest}  {escaped}\n"


_MOST_BYTES = 2**26
_ESCAPED = "\\"
_LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")


def _read(file: Path) -> list[tuple[str, str]]:
    """The SHA-256 and the name of each file, read as ``sha256sum --check`` does."""
    if not file.exists():
        raise FileNotFoundError(f"{file.parent} has no {MANIFEST}: it was not published")
    if not file.is_file() or _leads_out(file.parent, file.name):  # reading a pipe would block
        raise DamagedFileError(f"{file} is a folder, a device or a link, not a list")
    if file.stat().st_size > _MOST_BYTES:
        raise DamagedFileError(f"{file} has {file.stat().st_size} bytes, too many for a list")
    try:
        lines = file.read_text().split("\n")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{file} is not text: {error}") from error
    listed: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if (match := _LINE.fullmatch(line)) is None or not _is_inside(name := _named(match)):
            raise DamagedFileError(f"{file}:{number}: expected a SHA-256 and a file here: {line!r}")
        listed.append((match[2].lower(), PurePosixPath(name).as_posix()))
    return listed


def _named(match: re.Match[str]) -> str:
    if not match[1]:
        return match[3]
    return re.sub(r"\\(.)", lambda sign: {"n": "\n", "r": "\r"}.get(sign[1], sign[1]), match[3])


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name and name != "."
