"""Read files that list genotypes, one per line."""

from pathlib import Path

from dtb_builder.errors import GenotypeError
from dtb_builder.space.genotype import Genotype
from dtb_builder.space.named import NAMED

__all__ = ["find_genotype", "read_genotypes"]


def read_genotypes(path: str | Path) -> tuple[Genotype, ...]:
    """The genotypes of a text file, in the file's order and spelling.

    A line is the published text of a genotype or a name in NAMED. Text after a ``#`` is a comment;
    empty lines are skipped.

    Raises:
        GenotypeError: a line is neither, the file is not UTF-8, or it has no genotypes.
        OSError: the file cannot be read.
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


def find_genotype(entry: str) -> Genotype:
    """The genotype with this name in NAMED, or with this published text.

    Raises:
        GenotypeError: there is no such name, or the text is not a genotype.
    """
    if not entry.isidentifier():
        return Genotype.parse(entry)
    if entry not in NAMED:
        raise GenotypeError(f"wanted a genotype or one of {', '.join(NAMED)}, got {entry}")
    return NAMED[entry]
