"""The list of a published folder's files with their SHA-256, in the format of ``sha256sum``."""

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
    """List every file that is in the folder, and in folders in it, now."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in _names(folder)]
    write_whole(folder / MANIFEST, "".join(lines).encode())


def verify_manifest(folder: Path) -> Iterator[Checked]:
    """Read every file that the list names, and look for files that it does not.

    Raises:
        FileNotFoundError: there is no list.
        DamagedFileError: it cannot be read.
    """
    listed = _read(folder / MANIFEST)
    for name, wanted in listed.items():
        file = folder / name
        if not file.is_file():
            yield Checked(name, "it is not there")
        elif (found := sha256_of(file)) != wanted:
            yield Checked(name, f"its SHA-256 is {found[:12]}, expected {wanted[:12]}")
        else:
            yield Checked(name, None)
    for name in _names(folder):
        if name not in listed:
            yield Checked(name, f"{MANIFEST} does not list it")


def _names(folder: Path) -> list[str]:
    """Of all files but the list, and what a download tool keeps in hidden folders."""
    files = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return sorted(
        file.as_posix()
        for file in files
        if file.as_posix() != MANIFEST and not any(part.startswith(".") for part in file.parts)
    )


def _read(file: Path) -> dict[str, str]:
    if file.exists() and not file.is_file():  # reading a pipe would block
        raise DamagedFileError(f"{file} is not a file")
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file.parent} has no {MANIFEST}: it was not published") from None
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{file} is not text: {error}") from error
    listed: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        digest, separator, name = line.partition("  ")
        path = PurePosixPath(name)
        if len(digest) != 64 or not separator or path.is_absolute() or ".." in path.parts:
            raise DamagedFileError(f"{file}:{number}: expected a SHA-256 and a file here: {line!r}")
        listed[name] = digest
    return listed
