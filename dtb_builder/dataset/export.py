"""A benchmark's metrics as one long table in Parquet or CSV, written in blocks of runs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from dtb_builder.dataset.atomic import whole_file
from dtb_builder.dataset.query import Benchmark
from dtb_builder.record import METRICS
from dtb_builder.space import Genotype

__all__ = ["columns", "export_csv", "export_parquet", "table"]

_BLOCK_RUNS = 1024
_FACTS = {
    "run": (pa.int64(), "the run's number in the plan"),
    "epoch": (pa.int32(), "0 is the initialisation"),
    "genotype": (pa.string(), "canonical text"),
    "key": (pa.string(), "SHA-256 of that text"),
    "seed": (pa.int64(), "of the initialisation"),
    "order_seed": (pa.int64(), "of the data order, augmentation and drop-path"),
    "num_parameters": (pa.int64(), "trainable parameters, auxiliary head included"),
    "multiply_accumulates": (pa.int64(), "for one image, without the auxiliary head"),
}
_NUMBERS = ("seed", "order_seed", "num_parameters", "multiply_accumulates")

_COLUMNS = (
    *(f"runs/{name}" for name in ("number", "genotype", "key", *_NUMBERS)),
    *(f"{kind}/{name}" for kind in ("metrics", "measured") for name in METRICS),
)


def export_parquet(benchmark: Benchmark, target: Path | BinaryIO) -> None:
    """Write one row per run and epoch; unmeasured values are null. A file is whole or absent.

    The file's metadata hold the provenance as ``dtb_provenance``; each column's hold its meaning.

    Raises:
        DamagedFileError: the benchmark's bytes are not those that were written.
    """
    schema = _schema(benchmark)
    with (
        _sink(target) as sink,
        pyarrow.parquet.ParquetWriter(sink, schema, compression="zstd") as writer,
    ):
        for batch in _batches(benchmark, schema):
            writer.write_batch(batch)


def export_csv(benchmark: Benchmark, target: Path | BinaryIO) -> None:
    """Write the same table as CSV: the shortest exact text of a float, an empty field for null.

    Raises:
        DamagedFileError: the benchmark's bytes are not those that were written.
    """
    schema = _schema(benchmark)
    with _sink(target) as sink, pyarrow.csv.CSVWriter(sink, schema) as writer:
        for batch in _batches(benchmark, schema):
            writer.write_batch(batch)


def _sink(
    target: Path | BinaryIO,
) -> contextlib.AbstractContextManager[Path] | contextlib.AbstractContextManager[BinaryIO]:
    """Where a table is written: a file that is whole or absent, or an open file."""
    return whole_file(target) if isinstance(target, Path) else contextlib.nullcontext(target)


def table(benchmark: Benchmark) -> pa.Table:
    """The same table in memory.

    Raises:
        DamagedFileError: the benchmark's bytes are not those that were written.
    """
    schema = _schema(benchmark)
    return pa.Table.from_batches(_batches(benchmark, schema), schema)


def columns() -> dict[str, tuple[pa.DataType, str]]:
    """The columns of the table, each with its type and its meaning."""
    return _FACTS | {name: (pa.float64(), text) for name, text in METRICS.items()}


def _schema(benchmark: Benchmark) -> pa.Schema:
    fields = [
        pa.field(name, kind, metadata={"meaning": text}) for name, (kind, text) in columns().items()
    ]
    return pa.schema(fields, {"dtb_provenance": benchmark.provenance_text})


def _batches(benchmark: Benchmark, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    num_rows = benchmark.num_epochs + 1
    for block in benchmark.streamed(_COLUMNS, _BLOCK_RUNS):
        num_runs = len(block["runs/number"])
        texts = [Genotype.from_array(array) for array in block["runs/genotype"]]
        values: dict[str, Any] = {
            "run": np.repeat(block["runs/number"], num_rows),
            "epoch": np.tile(np.arange(num_rows, dtype=np.int32), num_runs),
            "genotype": _texts([str(genotype) for genotype in texts], num_rows),
            "key": _texts([bytes(key).hex() for key in block["runs/key"]], num_rows),
            **{name: np.repeat(block[f"runs/{name}"], num_rows) for name in _NUMBERS},
        }
        for name in METRICS:
            missing = block[f"measured/{name}"].reshape(-1) == 0
            values[name] = pa.array(block[f"metrics/{name}"].reshape(-1), mask=missing)
        yield pa.record_batch([values[name] for name in schema.names], schema=schema)


def _texts(texts: list[str], times: int) -> pa.Array:
    places = np.repeat(np.arange(len(texts), dtype=np.int32), times)
    return pa.DictionaryArray.from_arrays(places, pa.array(texts, pa.string())).dictionary_decode()
