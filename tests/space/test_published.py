import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.errors import GenotypeError
from dtb_builder.space import NAMED, Genotype

TEXT = str(NAMED["DARTS_V2"])
NORMAL, REDUCE = re.findall(r"\[\(.*?\)\]", TEXT)

NASNET = """Genotype(
  normal = [('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),
    ('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0),
    ('sep_conv_3x3', 1), ('skip_connect', 1)],
  normal_concat = [2, 3, 4, 5, 6],
  reduce = [('sep_conv_5x5', 1), ('sep_conv_7x7', 0), ('max_pool_3x3', 1), ('sep_conv_7x7', 0),
    ('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3), ('avg_pool_3x3', 2),
    ('sep_conv_3x3', 2), ('max_pool_3x3', 1)],
  reduce_concat = [4, 5, 6])"""


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("[2, 3, 4, 5]", "range(2, 6)"),
        TEXT.replace("[2, 3, 4, 5]", "(2, 3, 4, 5)"),
        TEXT.replace("[(", "((").replace(")]", "))"),
        TEXT.replace("('", "['").replace("),", "],").replace(")]", "]]"),
        f"DARTS_V2 = {TEXT}",
        f"  {TEXT}\n",
        f"{TEXT}  # a comment",
        f"Genotype({NORMAL}, [2, 3, 4, 5], {REDUCE}, [2, 3, 4, 5])",
        f"Genotype({NORMAL}, range(2, 6), reduce_concat=range(2, 6), reduce={REDUCE})",
        TEXT.replace(", ", ",\n    "),
        TEXT.replace("'", '"'),
        re.sub(r"(\('\w+', \d\)), (\('\w+', \d\))", r"[\1, \2]", TEXT),  # by node, as in pt.darts
        re.sub(r"(\d)\)", r"np.int64(\1))", re.sub(r"('\w+')", r"np.str_(\1)", TEXT)),
    ],
)
def test_published_variants_of_the_text_are_read(text: str) -> None:
    genotype = Genotype.parse(text)

    assert str(genotype) == TEXT


def test_a_genotype_of_nasnet_is_refused_for_its_concat() -> None:
    with pytest.raises(GenotypeError) as caught:
        Genotype.parse(NASNET)

    assert str(caught.value) == (
        "normal_concat: wanted [2, 3, 4, 5] or range(2, 6), the only one of the DARTS space, "
        "got [2, 3, 4, 5, 6]"
    )


def test_a_genotype_of_nasnet_with_our_concat_is_refused_for_its_edges() -> None:
    text = re.sub(r"concat = \[[^]]*\]", "concat = [2, 3, 4, 5]", NASNET)

    with pytest.raises(GenotypeError, match=r"^normal cell: wanted 8 edges.* got 10; cells of NAS"):
        Genotype.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wanted the text Genotype(...), got ''"),
        ("DARTS_V2", "wanted the text Genotype(...), got 'DARTS_V2'"),
        ("print(1)", "wanted the text Genotype(...), got 'print(1)'"),
        ("x.Genotype(1)", "wanted the text Genotype(...), got 'x.Genotype(1)'"),
        ("a = b = Genotype()", "wanted the text Genotype(...), got 'a = b = Genotype()'"),
        ("Genotype(); Genotype()", "wanted the text Genotype(...), got 'Genotype(); Genotype()'"),
        ("Genotype(", "wanted the text of a genotype, got 'Genotype(': '(' was never closed"),
        ("Genotype()", "Genotype(...) lacks normal, normal_concat, reduce, reduce_concat: "),
        ("Genotype(normal=1)", "Genotype(...) lacks normal_concat, reduce, reduce_concat: "),
        (
            "Genotype(1, 2, 3, 4, 5)",
            (
                "Genotype(...) has the 4 arguments normal, normal_concat, reduce, reduce_concat, "
                "got 5 of them without a name"
            ),
        ),
        (
            "Genotype(steps=4)",
            (
                "Genotype(...) has the arguments normal, normal_concat, reduce, reduce_concat, "
                "got steps=4"
            ),
        ),
        (
            "Genotype(**evil)",
            (
                "Genotype(...) has the arguments normal, normal_concat, reduce, reduce_concat, "
                "got **evil"
            ),
        ),
        ("Genotype(1, normal=2)", "Genotype(...) has normal twice"),
        (
            TEXT.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=range(2, 7)"),
            (
                "normal_concat: wanted [2, 3, 4, 5] or range(2, 6), the only one of the DARTS "
                "space, got range(2, 7)"
            ),
        ),
        (
            TEXT.replace("reduce_concat=[2, 3, 4, 5]", "reduce_concat=[2, 3, 4, 5.0]"),
            (
                "reduce_concat: wanted [2, 3, 4, 5] or range(2, 6), the only one of the DARTS "
                "space, got [2, 3, 4, 5.0]"
            ),
        ),
        (
            TEXT.replace("reduce_concat=[2, 3, 4, 5]", "reduce_concat=[5, 4, 3, 2]"),
            (
                "reduce_concat: wanted [2, 3, 4, 5] or range(2, 6), the only one of the DARTS "
                "space, got [5, 4, 3, 2]"
            ),
        ),
        (
            TEXT.replace(NORMAL, "open('x')"),
            "normal cell: wanted a list of (operation, predecessor) pairs, got open('x')",
        ),
        (
            TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', open('x'))"),
            (
                "normal cell, edge 7: wanted a pair such as ('sep_conv_3x3', 0), "
                "got ('dil_conv_3x3', open('x'))"
            ),
        ),
        (
            TEXT.replace("('dil_conv_3x3', 2)", "*'ab'"),
            "normal cell, edge 7: wanted a pair such as ('sep_conv_3x3', 0), got *'ab'",
        ),
        (
            TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', -2)"),
            "normal cell, node 5, edge 7: wanted a predecessor from 0 to 4, got -2",
        ),
        (
            TEXT.replace("('dil_conv_3x3', 2)", "('none', 2)"),
            "normal cell, node 5, edge 7: wanted one of the operations",
        ),
        (
            TEXT.replace("('dil_conv_3x3', 2)", "(2, 'dil_conv_3x3')"),
            "normal cell, node 5, edge 7: wanted one of the operations",
        ),
    ],
)
def test_another_text_is_refused_with_what_was_wanted_what_came_and_where(
    text: str, message: str
) -> None:
    with pytest.raises(GenotypeError) as caught:
        Genotype.parse(text)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 3_900,
        "[" * 1_500 + "]" * 1_500,
        "-" * 3_900 + "1",
        "not " * 950 + "1",
        "a." * 1_900 + "a",
        "a" + "[0]" * 1_300,
        "f" + "()" * 1_900,
        "1+" * 1_900 + "1",
        "lambda:" * 500 + "1",
        "1 if 1 else " * 300 + "1",
        "x=" * 1_900 + "Genotype()",
        f"Genotype({'[' * 1_900}{']' * 1_900}, 1, 1, 1)",
        "Genotype(" * 400 + ")" * 400,
        "1" * 3_900,
        TEXT.replace("('dil_conv_3x3', 2)", f"('dil_conv_3x3', 0x{'f' * 3_000})"),
        TEXT.replace("('dil_conv_3x3', 2)", f"('dil_conv_3x3', {'-' * 3_000}2)"),
        TEXT + "\0",
        TEXT + "\ud800",
        TEXT.replace("dil", "\\N{nothing}"),
        TEXT.replace("dil", "\\d"),
        TEXT.replace("2)", "2if 1else 2)", 1),
        "A" * 10**7,
        TEXT + " " * 4_000,
        "\f\t\v\r\n",
        "# only a comment",
    ],
)
def test_a_hostile_text_is_refused_and_harms_nothing(text: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        Genotype.parse(text)

    assert len(str(caught.value)) < 500


@given(st.text(max_size=60))
def test_junk_is_refused(text: str) -> None:
    with pytest.raises(GenotypeError):
        Genotype.parse(text)


@given(st.integers(0, len(TEXT) - 1), st.text(max_size=3))
def test_a_damaged_text_is_refused_or_gives_a_genotype(position: int, damage: str) -> None:
    try:
        genotype = Genotype.parse(TEXT[:position] + damage + TEXT[position + 1 :])
    except GenotypeError:
        return
    assert Genotype.parse(str(genotype)) == genotype


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(GenotypeError, match=r"^wanted the text of a genotype, got 7$"):
        Genotype.parse(7)  # pyright: ignore[reportArgumentType]
