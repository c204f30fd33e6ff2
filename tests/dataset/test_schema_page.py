"""data_schema.md is held against schema.py, each way round."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dtb_builder import Benchmark
from dtb_builder.dataset import schema
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.opening import open_file
from dtb_builder.record import METRICS

PAGE = (Path(__file__).parents[2] / "data_schema.md").read_text()


def table_under(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its header."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    width = len(rows[0])
    return [row for row in rows if len(row) == width]


def shape_of(column: schema.Column) -> str:
    names = {"runs": "R", "epochs": "E+1", "moments": "M", "failures": "F"}
    sizes = [names[size] if isinstance(size, str) else str(size) for size in column.shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def listed(heading: str) -> list[tuple[str, str]]:
    """Each name in the first column of a heading's table, with the cell that follows it."""
    rows = table_under(heading)
    return [(name, cells[1]) for cells in rows for name in re.findall(r"`([^`]+)`", cells[0])]


def test_the_page_has_every_column_and_no_other_in_their_order() -> None:
    expected = [
        (re.sub(rf"({'|'.join(METRICS)})$", "NAME", column.name), column)
        for column in schema.COLUMNS
    ]
    described = [(name, f"{c.dtype.str[1:]} {shape_of(c)}") for name, c in expected]
    assert listed("The index") == list(dict.fromkeys(described))
    assert [name for name, _ in listed("Metrics")] == list(METRICS)
    for group in ("metrics", "measured"):
        columns = [c.name for c in schema.COLUMNS if c.name.startswith(f"{group}/")]
        assert columns == [f"{group}/{name}" for name in METRICS]


def test_all_numbers_are_little_endian() -> None:
    assert {column.dtype.str[0] for column in schema.COLUMNS} <= {"<", "|"}


def test_the_page_has_every_text_and_no_other() -> None:
    assert [row[0] for row in table_under("Texts")] == [f"`{name}`" for name in schema.TEXTS]


def test_the_page_has_every_attribute_of_the_root_and_no_other(shard: Path) -> None:
    listed = {row[0].strip("`"): row[1].strip("`") for row in table_under("Files")}
    with open_file(shard) as file:
        assert set(file.attrs) == set(listed)
    assert listed[schema.FORMAT_ATTRIBUTE] == schema.FORMAT
    assert listed[schema.VERSION_ATTRIBUTE] == schema.SCHEMA_VERSION
    for kind in (schema.FileKind.SHARD, schema.FileKind.BENCHMARK, schema.FileKind.STATES):
        assert f"`{kind}`" in f"`{listed[schema.KIND_ATTRIBUTE]}`"


def test_the_page_describes_the_tensor_table() -> None:
    assert re.search(r"`name` \(S64.*`rank` \(u1\), `shape` \(4 x i4.*`offset` \(i8", PAGE)
    assert schema.TENSOR_DTYPE.itemsize == 64 + 1 + 4 * 4 + 8
    assert f"{schema.MAX_FLOATS:,}" in PAGE
    assert f"{schema.MAX_ENTRIES:,}" in PAGE
    assert f"`{schema.run_group(12)}`" in PAGE


def test_a_file_holds_what_the_page_lists_and_nothing_else(shard: Path) -> None:
    found: list[str] = []
    with open_file(shard) as file:
        file.visititems(lambda name, item: found.append(name) if hasattr(item, "dtype") else None)
    index = {column.name for column in schema.COLUMNS} | set(schema.TEXTS)
    checksums = {schema.checksums_of(name) for name in index}
    states = {
        f"{schema.run_group(number)}/{name}"
        for number in (3, 5)
        for name in (schema.WHOLE, schema.DIFFERENCES, schema.MOMENTUM, schema.TENSORS)
    }
    assert set(found) == index | checksums | states


@pytest.mark.parametrize("volume_size", [None, 1])
@pytest.mark.parametrize("differences", [{1: 0}, {2: 1}, {1: 0, 2: 0}])
def test_the_pages_examples_read_a_state(
    differences: dict[int, int], volume_size: int | None, make_shard: Callable[..., Path]
) -> None:
    shard = make_shard("runs", [0, 1], differences=differences, diverged={0: 1})
    path = shard.with_name("merged.h5")
    for _ in merge([shard], path, volume_size=volume_size):
        pass
    names: dict[str, object] = {"path": path}
    for example in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(example, names)
    state, vector, restored = names["state"], names["vector"], names["restored"]
    assert names["sound"] is True
    assert isinstance(state, dict)
    assert isinstance(vector, np.ndarray)
    assert isinstance(restored, np.ndarray)
    with Benchmark(path) as benchmark:
        expected = benchmark.run(1).state(epoch=0)
        assert np.array_equal(vector, benchmark.run(1).training_state(epoch=0).values)
        values = benchmark.run(1).training_state(epoch=min(differences)).values
        assert np.array_equal(restored, values)
    assert list(state) == list(expected)
    for name, values in expected.items():
        assert np.array_equal(state[name], values)
