import hashlib

import pytest

from dtb_builder.space import NAMED


def test_the_named_genotypes_are_those_of_the_papers() -> None:
    assert list(NAMED) == [
        "DARTS_V1",
        "DARTS_V2",
        "PC_DARTS_cifar",
        "PC_DARTS_image",
        "PDARTS",
        "SNAS_mild",
        "DrNAS_cifar10",
        "DrNAS_imagenet",
        "SGAS",
        "RobustDARTS",
    ]


def test_no_two_of_them_are_isomorphic() -> None:
    assert len({genotype.iso_key for genotype in NAMED.values()}) == len(NAMED)


def test_their_published_spellings_do_not_drift() -> None:
    texts = "\n".join(f"{name} = {genotype}" for name, genotype in NAMED.items())

    assert (
        hashlib.sha256(texts.encode()).hexdigest()
        == "e9e93acab97bceac2683e3417c749cfe333c26d8fbed72ba6fae4fe93acd44fe"
    )


def test_the_spelling_of_darts_v1_puts_the_previous_cell_first() -> None:
    assert NAMED["DARTS_V1"].normal[:2] == (("sep_conv_3x3", 1), ("sep_conv_3x3", 0))


def test_they_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        NAMED["MINE"] = NAMED["PDARTS"]  # pyright: ignore[reportIndexIssue]
