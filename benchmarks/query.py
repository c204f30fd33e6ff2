"""How fast a very large benchmark answers, beside other ways to keep the same numbers.

    python benchmarks/query.py FOLDER [--runs 1000000] [--epochs 50]

makes FOLDER/dtb.h5 through the real writer unless it is there: 6.3 MB for every thousand runs of 50
epochs. The metrics are random numbers, the keys random bytes, and there are no states. The peers'
files, of one metric or of the last epoch alone, are made beside it.
"""

import argparse
import pickle
import platform
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from dtb_builder import Benchmark, Genotype
from dtb_builder.dataset import schema
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.index import IndexWriter, row_checksums
from dtb_builder.dataset.moments import moment_columns
from dtb_builder.dataset.opening import create
from dtb_builder.record import METRICS
from dtb_builder.space import OPERATIONS

METRIC = "valid_accuracy"
PROVENANCE = '{"config": {"note": "random numbers, to measure with"}}'
PAIRS = [[(i, j) for i in range(2 + n) for j in range(i + 1, 2 + n)] for n in range(4)]
PICKLED_RUNS = 20_000
BLOCK_RUNS = 2**15
BEST = 100
FEW_PARAMETERS = 2 * 10**6


def main() -> None:
    """Make what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--turns", type=int, default=7, help="of each side, A B A B")
    parser.add_argument("--only-make", action="store_true", help="measure another time")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    path: Path = arguments.folder / "dtb.h5"
    if not path.exists():
        begin = time.perf_counter()
        make_index(path, arguments.runs, arguments.epochs)
        print(f"made {path.stat().st_size / 1e9:.2f} GB in {time.perf_counter() - begin:.0f} s")
    peers = Peers(arguments.folder, path)
    if arguments.only_make:
        return
    with Benchmark(path) as bench:
        print(f"{len(bench):,} runs of {bench.num_epochs} epochs, {path.stat().st_size:,} bytes")
    versions = {"h5py": h5py.__version__, "numpy": np.__version__, "pandas": pd.__version__}
    print(platform.platform(), platform.python_version(), versions)
    _warm(path)
    print_opening(path, peers, arguments.turns)
    print_one_run(path, peers)
    print_columns(path, peers, arguments.turns)


# What is measured.


def print_opening(path: Path, peers: "Peers", turns: int) -> None:
    """In a process of its own: milliseconds and memory until it is open."""
    some = f"pickle, {PICKLED_RUNS:,} runs of one metric"
    ways = {
        "**DTB**": ("dtb_builder", f"dtb_builder.Benchmark({str(path)!r})"),
        "DTB, its import alone": ("dtb_builder", "None"),
        "h5py": ("h5py", f"h5py.File({str(path)!r})"),
        "sqlite, last epoch": ("sqlite3", f"sqlite3.connect({str(peers.database)!r})"),
        "parquet, metadata of one metric": (
            "pandas, pyarrow.parquet",
            f"pyarrow.parquet.ParquetFile({str(peers.parquet)!r})",
        ),
        some: ("pickle", f"pickle.load(open({str(peers.pickled)!r}, 'rb'))"),
    }
    print("\n| open | ms | MiB resident |\n|---|---|---|")
    for name, (modules, way) in ways.items():
        code = (
            f"import time, {modules}; begin = time.perf_counter(); kept = {way}; "
            "print((time.perf_counter() - begin) * 1000); "
            "print(next(x for x in open('/proc/self/status') if x.startswith('VmRSS')))"
        )
        found = []
        for _ in range(turns):
            shown = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout.split()
            found.append((float(shown[0]), int(shown[2]) / 1024))
        milliseconds, mib = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"| {name} | {milliseconds:.2f} | {mib:.0f} |")


def print_one_run(path: Path, peers: "Peers") -> None:
    """Microseconds from a genotype to a metric, of genotypes that were not asked for before."""
    rng = np.random.default_rng(1)
    with Benchmark(path) as bench:
        rows = rng.permutation(len(bench))[:4000].tolist()
        arrays = bench.genotypes[rows]
    genotypes = [Genotype.from_array(array) for array in arrays]
    print("\n| from genotype to metric | µs |\n|---|---|")
    with Benchmark(path) as bench:
        begin = time.perf_counter()
        expected = [bench[genotypes[0]].metric(METRIC, epoch=-1)]
        print(f"| **DTB**, the first, which sorts the genotypes | {_microseconds(begin):,.0f} |")
        times = _each(lambda genotype: bench[genotype].metric(METRIC, epoch=-1), genotypes[1:3000])
        print(f"| **DTB**, the next 100, median | {statistics.median(times[:100]):.1f} |")
        print(f"| **DTB**, the slowest of the next 3,000 | {max(times):,.0f} |")
        print(f"| **DTB**, warm, median of 2,000 | {statistics.median(times[1000:]):.1f} |")
        print(f"| **DTB**, warm, 99 of 100 within | {np.quantile(times[1000:], 0.99):.1f} |")
        print(f"| memory then | {_resident_mib():.0f} MiB |")
        expected += [bench[genotype].metric(METRIC, epoch=-1) for genotype in genotypes[1:100]]
    with h5py.File(path) as file:
        column = file[f"metrics/{METRIC}"]
        assert isinstance(column, h5py.Dataset)
        times = _each(lambda row: column[row, -1], rows[:1000])
        assert [column[row, -1] for row in rows[:100]] == expected
    print(f"| h5py, by row number: no look-up, no check | {statistics.median(times):.1f} |")
    database = sqlite3.connect(peers.database)
    keys = [array.tobytes() for array in arrays]
    query = f"select {METRIC} from runs where genotype = ?"
    times = _each(lambda key: database.execute(query, (key,)).fetchone(), keys[:1000])
    print(f"| sqlite, by its primary key, no check | {statistics.median(times):.1f} |")
    loaded = pickle.loads(peers.pickled.read_bytes())
    keys = list(loaded)[:1000]
    times = _each(lambda key: loaded[key][METRIC][-1], keys)
    print(f"| pickle in memory, {PICKLED_RUNS:,} runs | {statistics.median(times):.1f} |")


def print_columns(path: Path, peers: "Peers", turns: int) -> None:
    """Milliseconds of what touches every run."""
    with Benchmark(path) as bench, h5py.File(path) as file:
        column = file[f"metrics/{METRIC}"]
        assert isinstance(column, h5py.Dataset)
        num_epochs = bench.num_epochs
        database = sqlite3.connect(peers.database)

        def filtered() -> int:
            convolutions = (bench.genotypes[..., 0] >= OPERATIONS.index("sep_conv_3x3")).sum((1, 2))
            small = bench.num_parameters < FEW_PARAMETERS
            good = bench.array(METRIC, epoch=-1) > 0.99
            return len(bench.select(good & small & (convolutions >= 12)))

        ways: dict[str, dict[str, Callable[[], Any]]] = {
            "one metric, last epoch": {
                "**DTB** `array(metric, epoch=-1)`": lambda: bench.array(METRIC, epoch=-1),
                "h5py `[:, -1]`": lambda: column[:, -1],
                "h5py `[...][:, -1]`": lambda: column[...][:, -1],
                "parquet, a column per epoch": lambda: pd.read_parquet(
                    peers.parquet, columns=[str(num_epochs)]
                ),
                "sqlite": lambda: np.array(
                    database.execute(f"select {METRIC} from runs").fetchall()
                ),
            },
            f"best {BEST}": {
                "**DTB** `top`": lambda: bench.top(BEST, by=METRIC, epoch=-1),
                "h5py, numpy argsort": lambda: np.argsort(-column[:, -1], kind="stable")[:BEST],
                "sqlite, without an index on it": lambda: database.execute(
                    f"select number from runs order by {METRIC} desc limit {BEST}"
                ).fetchall(),
            },
            "three conditions": {
                "**DTB** `select`": filtered,
                "sqlite, two of them": lambda: database.execute(
                    f"select number from runs where {METRIC} > 0.99 and num_parameters < ?",
                    (FEW_PARAMETERS,),
                ).fetchall(),
            },
        }
        print("\n| of all runs | way | ms | times DTB's |\n|---|---|---|---|")
        for what, each in ways.items():
            times = _alternated(each, turns)
            ours = next(iter(times.values()))
            for name, milliseconds in times.items():
                print(f"| {what} | {name} | {milliseconds:.1f} | {milliseconds / ours:.2f} |")
        assert (bench.array(METRIC, epoch=-1) == column[:, -1]).all()
        print(f"\nmemory then {_resident_mib():.0f} MiB")


def _warm(path: Path) -> None:
    """Let the system have the file in memory: disks are not measured here."""
    with path.open("rb") as file:
        while file.read(2**24):
            pass


def _alternated(ways: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Median milliseconds of each, taken in turns after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            times[name].append(_microseconds(begin) / 1000)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def _each(ask: Callable[[Any], Any], about: list[Any]) -> list[float]:
    """Microseconds of each question."""
    times = []
    for one in about:
        begin = time.perf_counter()
        ask(one)
        times.append(_microseconds(begin))
    return times


def _microseconds(begin: float) -> float:
    return (time.perf_counter() - begin) * 1e6


def _resident_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x for x in lines if x.startswith("VmRSS")).split()[1]) / 1024


# What is read.


def make_index(
    path: Path, num_runs: int, num_epochs: int, provenance_text: str = PROVENANCE
) -> None:
    """An index of random numbers."""
    rng = np.random.default_rng(0)
    provenance = crc32c(provenance_text.encode())
    with create(path, kind=schema.FileKind.BENCHMARK, provenance_crc32c=provenance) as file:
        index = IndexWriter(
            file,
            num_runs=num_runs,
            num_epochs=num_epochs,
            moments=[],
            failures=[],
        )
        for first in range(0, num_runs, BLOCK_RUNS):
            numbers = np.arange(first, min(first + BLOCK_RUNS, num_runs))
            columns = _columns(numbers, num_epochs, rng)
            columns["runs/crc32c"] = row_checksums(columns | moment_columns([]))
            index.put(columns, slice(first, first + len(numbers)))
        origin = '{"kind": "trained"}'
        index.finish(provenance_text, ['{"device_name": "none"}'], [origin], [""])


def _columns(
    numbers: NDArray[np.int64], num_epochs: int, rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    for column in schema.COLUMNS:
        if column.counts_runs:
            sizes = {"runs": len(numbers), "epochs": num_epochs + 1, "moments": 0}
            shape = [sizes[size] if isinstance(size, str) else size for size in column.shape]
            columns[column.name] = np.zeros(shape, column.dtype)
    for name in METRICS:
        columns[f"metrics/{name}"] = rng.random((len(numbers), num_epochs + 1))
        columns[f"measured/{name}"][:] = 1
    for name in ("runs/key", "runs/iso_key"):
        columns[name] = rng.integers(0, 256, (len(numbers), 32), np.uint8)
    columns["runs/number"] = numbers
    columns["runs/num_epochs"][:] = num_epochs
    columns["runs/num_parameters"] = rng.integers(10**6, 4 * 10**6, len(numbers))
    genotypes = columns["runs/genotype"]
    genotypes[..., 0] = rng.integers(0, len(OPERATIONS), genotypes.shape[:-1])
    for node, pairs in enumerate(PAIRS):
        choice = rng.integers(0, len(pairs), (len(numbers), 2))
        genotypes[:, :, 2 * node : 2 * node + 2, 1] = np.array(pairs)[choice]
    return columns


class Peers:
    """The same numbers, or some of them, as others keep them."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.parquet = folder / "one_metric.parquet"
        self.database = folder / "last_epoch.sqlite"
        self.pickled = folder / "some_runs.pickle"
        with Benchmark(path) as bench:
            if not self.parquet.exists():
                values = bench.array(METRIC).data
                names = [str(epoch) for epoch in range(values.shape[1])]
                pd.DataFrame(values, columns=names, copy=False).to_parquet(self.parquet)
            if not self.database.exists():
                self._make_database(bench)
            if not self.pickled.exists():
                curves = bench.array(METRIC).data[:PICKLED_RUNS].tolist()
                genotypes = bench.genotypes[:PICKLED_RUNS]
                runs = {
                    str(Genotype.from_array(array)): {METRIC: curve}
                    for array, curve in zip(genotypes, curves, strict=True)
                }
                self.pickled.write_bytes(pickle.dumps(runs))

    def _make_database(self, bench: Benchmark) -> None:
        with sqlite3.connect(self.database) as database:
            database.execute(
                "create table runs (genotype blob primary key, number integer, "
                f"num_parameters integer, {METRIC} real) without rowid"
            )
            columns = (
                [genotype.tobytes() for genotype in bench.genotypes],
                bench.numbers.tolist(),
                bench.num_parameters.tolist(),
                bench.array(METRIC, epoch=-1).tolist(),
            )
            rows = zip(*columns, strict=True)
            database.executemany("insert or ignore into runs values (?, ?, ?, ?)", rows)


if __name__ == "__main__":
    main()
