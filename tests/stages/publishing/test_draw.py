"""Pictures of cells: what they say, and that they can be seen."""

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from dtb_builder.space import NAMED, OPERATIONS, Genotype, sample_uniform

Dtb = Callable[..., int]
SVG = "{http://www.w3.org/2000/svg}"


def texts(genotype: Genotype) -> list[tuple[str, float, float]]:
    """Each text of a picture, with its place."""
    root = ElementTree.fromstring(genotype.to_svg())
    return [
        (element.text or "", float(element.attrib["x"]), float(element.attrib["y"]))
        for element in root.iter(f"{SVG}text")
    ]


@given(st.integers(0, 10_000))
def test_a_picture_names_every_operation_as_often_as_the_genotype_has_it(seed: int) -> None:
    genotype = sample_uniform(seed, 0)
    wanted = [edge.operation for edge in (*genotype.normal, *genotype.reduce)]
    shown = [text for text, _, _ in texts(genotype) if "_" in text]
    assert sorted(shown) == sorted(wanted)


@given(st.integers(0, 10_000))
def test_no_name_covers_another(seed: int) -> None:
    placed = texts(sample_uniform(seed, 0))
    for i, (one, x, y) in enumerate(placed):
        for other, x2, y2 in placed[:i]:
            assert abs(y - y2) >= 10 or abs(x - x2) >= 3.2 * (len(one) + len(other)), (one, other)


def test_equal_genotypes_have_equal_pictures_in_one_spelling() -> None:
    genotype = NAMED["DARTS_V1"].canonical()
    assert genotype.to_svg() == Genotype.parse(str(genotype)).to_svg()


@pytest.mark.parametrize(("ending", "magic"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_draw_writes_the_format_that_the_file_is_named_after(
    ending: str, magic: bytes, tmp_path: Path, dtb: Dtb
) -> None:
    file = tmp_path / f"cells.{ending}"
    assert dtb("draw", "DARTS_V2", "--into", file) == 0
    assert file.read_bytes().startswith(magic)


def test_a_png_has_its_own_font_and_can_be_read(tmp_path: Path, dtb: Dtb) -> None:
    assert dtb("draw", "DARTS_V2", "--into", tmp_path / "cells.png") == 0
    with Image.open(tmp_path / "cells.png") as picture:
        ink = 255.0 - np.asarray(picture.convert("L"))
    folder = Path(sys.modules["dtb_builder.stages.publishing"].__path__[0])
    font = ImageFont.truetype(folder / "DejaVuSans.ttf", 28)
    for text, x, y in texts(NAMED["DARTS_V2"]):
        if text in OPERATIONS:
            left, top = round(2 * x) - 105, round(2 * y) - 28
            seen = ink[top : top + 37, left : left + 210]

            def likeness(name: str, seen: Any = seen) -> float:
                template = Image.new("L", seen.shape[::-1])
                ImageDraw.Draw(template).text((105, 28), name, 255, font, anchor="ms")
                return float(np.corrcoef(seen.ravel(), np.asarray(template).ravel())[0, 1])

            assert max(OPERATIONS, key=likeness) == text
            assert likeness(text) > 0.8


def test_no_arc_shows_through_a_name() -> None:
    drawn = list(ElementTree.fromstring(NAMED["DARTS_V2"].to_svg()))
    for i, element in enumerate(drawn):
        if element.text in OPERATIONS:
            box = {name: float(drawn[i - 1].get(name, 0)) for name in ("x", "y", "width", "height")}
            middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            num_arcs = sum(before.tag == f"{SVG}path" for before in drawn[: i - 1])
            assert drawn[i - 1].get("fill") == "#ffffff"
            assert num_arcs in (8, 16)  # those of its cell are all below it
            assert middle == (float(element.attrib["x"]), float(element.attrib["y"]) - 5)


def test_another_ending_is_refused(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("draw", "DARTS_V2", "--into", tmp_path / "cells.pdf") == 2
    assert "must end with .svg or .png" in capsys.readouterr().err


def test_a_picture_into_no_folder_names_the_folder(
    tmp_path: Path, dtb: Dtb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dtb("draw", "DARTS_V2", "--into", tmp_path / "nowhere" / "cell.svg") == 2
    printed = capsys.readouterr().err
    assert f"there is no such folder: '{tmp_path / 'nowhere'}'" in printed
    assert ".writing" not in printed
