"""Find genotypes by object, name or text, and read files that list them."""

from pathlib import Path
from typing import Protocol

from dtb_builder.errors import GenotypeError
from dtb_builder.meant import did_you_mean
from dtb_builder.space.cell import checked_cell, shown
from dtb_builder.space.genotype import Genotype
from dtb_builder.space.named import NAMED

__all__ = ["GenotypeLike", "HasCells", "find_genotype", "no_such_name", "read_genotypes"]

_CONCAT = [2, 3, 4, 5]


class HasCells(Protocol):
    """Such as the namedtuple ``Genotype`` of the DARTS repositories."""

    @property
    def normal(self) -> object: ...  # noqa: D102

    @property
    def reduce(self) -> object: ...  # noqa: D102


GenotypeLike = Genotype | HasCells | str
"""A genotype, a published one's name or text, or another project's object with both cells."""


def read_genotypes(path: str | Path) -> tuple[Genotype, ...]:
    """The genotypes of a text file, in the file's order and spelling.

    A line is the published text of a genotype or a name in NAMED. Text after a ``#`` is a comment;
    empty lines are skipped.

    Raises:
        GenotypeError: a line is neither, the file is not UTF-8, or it has no genotypes.
        OSError: the file cannot be read.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "mine.txt"
    ...     _ = file.write_text("DARTS_V1")
    ...     read_genotypes(file)
    (<Genotype DARTS_V1>,)
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise GenotypeError(
            f"{path}: wanted UTF-8 text, got byte 0x{error.object[error.start]:02x} "
            f"at position {error.start}"
        ) from error
    genotypes: list[Genotype] = []
    for number, line in enumerate(lines, start=1):
        entry = line.partition("#")[0].strip()
        if entry:
            try:
                genotypes.append(find_genotype(entry))
            except GenotypeError as error:
                raise GenotypeError(f"{path}, line {number}: {error}") from error
    if not genotypes:
        raise GenotypeError(f"{path}: wanted one genotype per line, got none")
    return tuple(genotypes)


def find_genotype(entry: GenotypeLike) -> Genotype:
    """The genotype of a name in NAMED, of a published text, or of an object of another project.

    Raises:
        GenotypeError: it is outside the space, or neither a name in NAMED nor a published text.
        TypeError: it is none of these.
    """
    if isinstance(entry, Genotype):
        return entry
    if isinstance(entry, str):
        if not entry.isidentifier():
            return Genotype.parse(entry)
        if entry not in NAMED:
            raise GenotypeError(no_such_name(entry))
        return NAMED[entry]
    if not (hasattr(entry, "normal") and hasattr(entry, "reduce")):
        raise TypeError(f"expected a genotype, its name or its text, got {shown(entry)}")
    for name in ("normal_concat", "reduce_concat"):
        if list(concat := getattr(entry, name, _CONCAT)) != _CONCAT:
            raise GenotypeError(f"{name}: wanted {_CONCAT}, got {shown(concat)}")
    return Genotype(checked_cell(entry.normal, "normal"), checked_cell(entry.reduce, "reduce"))


def no_such_name(name: str) -> str:
    """Says that no published genotype has this name, and which one may be meant."""
    hint = did_you_mean(name, NAMED) or f": names are {', '.join(NAMED)}"
    return f"no genotype is named {name}{hint}"
