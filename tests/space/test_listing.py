from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.errors import GenotypeError
from dtb_builder.space import NAMED, read_genotypes, sample_uniform
from dtb_builder.space.listing import find_genotype


@given(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=5))
def test_a_list_of_texts_comes_back_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int]
) -> None:
    path = tmp_path_factory.mktemp("lists") / "genotypes.txt"
    genotypes = tuple(sample_uniform(seed, 0) for seed in seeds)
    path.write_text("\n".join(map(str, genotypes)))

    assert read_genotypes(path) == genotypes


def test_names_blank_lines_comments_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "genotypes.txt"
    path.write_bytes(
        b"\xef\xbb\xbf# baselines \xc3\xa9\r\n\r\n  DARTS_V1  # first order\r\n"
        b"MINE = " + str(NAMED["PDARTS"]).encode() + b"\r\n"
    )

    genotypes = read_genotypes(str(path))

    assert genotypes == (NAMED["DARTS_V1"], NAMED["PDARTS"])
    assert str(genotypes[0]) == str(NAMED["DARTS_V1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"DARTS_V1\n\nDARTS_V3\n",
            "{path}, line 3: no genotype is named DARTS_V3: did you mean DARTS_V2 or DARTS_V1?",
        ),
        (
            b"# one\nGenotype(\n",
            "{path}, line 2: wanted the text of a genotype, got 'Genotype(': '(' was never closed",
        ),
        (b"", "{path}: wanted one genotype per line, got none"),
        (b"# nothing\n\n", "{path}: wanted one genotype per line, got none"),
        (b"DARTS_V1\n\xff", "{path}: wanted UTF-8 text, got byte 0xff at position 9"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "genotypes.txt"
    path.write_bytes(content)

    with pytest.raises(GenotypeError) as caught:
        read_genotypes(path)

    assert str(caught.value) == message.format(path=path)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_genotypes(tmp_path / "absent.txt")


Foreign = namedtuple("Foreign", "normal normal_concat reduce reduce_concat")


def test_any_object_with_both_cells_is_a_genotype() -> None:
    genotype = NAMED["DARTS_V2"]
    flat = Foreign(list(genotype.normal), range(2, 6), list(genotype.reduce), range(2, 6))
    nested = flat._replace(normal=[genotype.normal[i : i + 2] for i in range(0, 8, 2)])

    assert str(find_genotype(flat)) == str(find_genotype(nested)) == str(genotype)
    with pytest.raises(GenotypeError, match=r"reduce_concat: wanted \[2, 3, 4, 5\], got range"):
        find_genotype(flat._replace(reduce_concat=range(3, 6)))
    with pytest.raises(GenotypeError, match=r"normal cell: wanted 8 edges.* got 1"):
        find_genotype(flat._replace(normal=nested.normal[0][:1]))
    with pytest.raises(TypeError, match="expected a genotype, its name or its text, got 3"):
        find_genotype(3)  # pyright: ignore[reportArgumentType]
