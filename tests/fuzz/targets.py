"""What is fuzzed: for each kind of file, a sound one, how it is forged, and how it is read."""

import contextlib
import io
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
from chaos import fake_runs, reading
from chaos.mutants import seal
from hypothesis import strategies as st
from pyarrow import parquet
from tfrecords import framed, trained_cell

from dtb_builder import Benchmark
from dtb_builder.cli import main
from dtb_builder.dataset import codec, journal, schema, superblock
from dtb_builder.dataset.column import block_checksums, list_checksum
from dtb_builder.dataset.manifest import MANIFEST, verify_manifest, write_manifest
from dtb_builder.dataset.opening import dataset_at
from dtb_builder.dataset.provenance import device_names, whole_provenance
from dtb_builder.dataset.states import table_from_bytes, table_to_array
from dtb_builder.errors import ConfigError, DTBError
from dtb_builder.shown import shown
from dtb_builder.space import Genotype, sample_uniform
from dtb_builder.space.configuration import configuration_of, genotype_from
from dtb_builder.space.listing import read_genotypes
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.ranking.report import ranked_training, read_ranking
from dtb_builder.stages.scoring.table import ScoreTable, read_scores, write_scores
from dtb_builder.stages.work.lines import read_lines, write_lines
from dtb_builder.stages.work.locking import FolderLock
from dtb_builder.tables import read_nasbench101, read_nds
from fuzz.strategies import changed_bytes, changed_json

__all__ = ["PROVENANCE", "Target", "WrongError", "put_text", "targets"]

GENOTYPE = sample_uniform(0, 1)
PROVENANCE: dict[str, Any] = {
    "config": {
        "compute": {"device": "cpu", "threads": 1, "deterministic": True, "kernels": "off"},
        "images": {"name": "digits", "num_valid": 5, "split_seed": 0, "num_train": None},
        "network": {"channels": 2, "layers": 2, "auxiliary": False},
        "recipe": {"momentum": 0.9, "num_epochs": 3},
        "seeds": [0],
        "space": {"kind": "uniform"},
        "states": {"dtype": "float32", "auxiliary_head": True},
    },
    "images": {"name": "digits", "num_classes": 10, "sha256": "ab", "shape": [1, 8, 8]},
    "network": {
        "channels": 2,
        "layers": 2,
        "auxiliary": False,
        "num_classes": 10,
        "input_channels": 1,
        "image_size": 8,
    },
    "plan": {"runs": 4, "sha256": "cd"},
    "splits": {name: {"of": "test images", "size": 5} for name in ("train", "valid", "test")},
}


class WrongError(AssertionError):
    """Something else was read than what was written, or a terminal would obey it."""


@dataclass(frozen=True)
class Target:
    """A kind of input.

    Attributes:
        name: of the kind.
        inputs: makes them, as bytes.
        read: reads one, and raises `WrongError` where it is taken for something else.
    """

    name: str
    inputs: st.SearchStrategy[bytes]
    read: Callable[[bytes], object]


def targets(work: Path) -> list[Target]:
    """All kinds, which write into a folder."""
    return [
        Target("genotype text", changed_bytes(str(GENOTYPE).encode()), _genotype),
        Target("genotype list", changed_bytes(f"{GENOTYPE}\n".encode() * 2), _to(work, _listing)),
        Target("configuration", changed_json(configuration_of(GENOTYPE)), _configuration),
        Target("NDS table", changed_json(_NDS), lambda text: read_nds(text.decode())),
        Target(
            "NAS-Bench-101 record",
            changed_json(_cell()).map(framed),
            lambda data: list(read_nasbench101(io.BytesIO(data))),
        ),
        Target("NAS-Bench-101 bytes", changed_bytes(framed(json.dumps(_cell()).encode())), _cells),
        *_journals(work),
        *_lines(work),
        Target("rank.json", changed_json(_RANKING), _to(work, _ranking)),
        *_scores(work),
        Target("lock's signature", changed_json(_SIGNATURE), partial(_lock, work)),
        Target("failures.json", changed_json(_FAILURES), partial(_failures, work)),
        Target("tensor table", changed_bytes(_TABLE.tobytes()), table_from_bytes),
        Target("frame", changed_bytes(_FRAME), _frame),
        Target("SHA256SUMS", changed_bytes(_manifest(work).read_bytes()), partial(_sums, work)),
        *_files(work),
    ]


def _to(work: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Has a function that reads a file read bytes."""

    def from_bytes(data: bytes) -> object:
        file = work / "input"
        file.write_bytes(data)
        return read(file)

    return from_bytes


def _genotype(text: bytes) -> None:
    genotype = Genotype.parse(text.decode(errors="surrogateescape"))
    if Genotype.parse(str(genotype)) != genotype:
        raise WrongError(f"{genotype} is read as another")


def _listing(file: Path) -> None:
    for genotype in read_genotypes(file):
        _genotype(str(genotype).encode())


def _configuration(text: bytes) -> None:
    value = _json(text)
    if isinstance(value, dict):
        genotype_from(value)


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_NDS = [
    {
        "net": {
            "genotype": {
                "normal": [list(edge) for edge in GENOTYPE.normal],
                "reduce": [list(edge) for edge in GENOTYPE.reduce],
                "normal_concat": [2, 3, 4, 5],
                "reduce_concat": [2, 3, 4, 5],
            },
            "width": 20,
            "depth": 11,
            "aux": True,
        },
        "test_ep_top1": [60.0, 12.5],
    }
]


def _cell() -> Any:
    record = trained_cell("hash", "010001000", "input,conv1x1-bn-relu,output", 0.1, 0.5, 0.9)
    (length,) = struct.unpack_from("<Q", record)
    return json.loads(record[12 : 12 + length])


def _cells(data: bytes) -> None:
    truth = list(read_nasbench101(io.BytesIO(framed(json.dumps(_cell()).encode()))))
    for cell in read_nasbench101(io.BytesIO(data)):
        if [cell] != truth:
            raise WrongError("another record")


def _journals(work: Path) -> list[Target]:
    file = work / "run.journal"
    fake_runs.write_journal(file, 0)
    data = file.read_bytes()
    with file.open("rb") as opened:
        headers = list(journal._records(opened))
    ends = [header.end for header in headers]
    run, epoch = (
        json.loads(data[header.text_offset : header.frame_offset]) for header in headers[:2]
    )
    truth = journal.read_journal(file)
    assert truth is not None

    def read(path: Path) -> None:
        journal.peek_journal(path)
        found = journal.read_journal(path)
        if found is not None and found.run.number == truth.run.number:
            list(found.read([moment.frame for moment in found.moments]))

    def raw(path: Path) -> None:
        journal.peek_journal(path)
        found = journal.read_journal(path)
        if found is not None and found.epochs != truth.epochs[: len(found.epochs)]:
            raise WrongError("an epoch that was not written")

    def record(kind: int, before: bytes, frames: bytes, text: bytes) -> bytes:
        checksum = codec.crc32c(frames, codec.crc32c(text))
        packed = journal._HEADER.pack(
            journal._MAGIC, kind, 0, len(text), len(frames), checksum, bytes(24)
        )
        own = journal._OWN_CHECKSUM.pack(codec.crc32c(packed))
        return before + packed + own + text + frames

    frames = data[headers[1].frame_offset : headers[1].end]
    first = partial(record, journal._RUN, b"", b"")
    second = partial(record, journal._EPOCH, data[: ends[0]], frames)
    return [
        Target("journal bytes", changed_bytes(data), _to(work, raw)),
        Target("journal's run", changed_json(run).map(first), _to(work, read)),
        Target("journal's epoch", changed_json(epoch).map(second), _to(work, read)),
    ]


def _lines(work: Path) -> list[Target]:
    file = work / "lines"
    values = [{"index": 0, "score": 0.5}, {"index": 1, "genotype": str(GENOTYPE)}]
    write_lines(file, values)

    def raw(path: Path) -> None:
        found = read_lines(path)
        if found != values[: len(found)]:
            raise WrongError("a line that was not written")

    def line(text: bytes) -> bytes:
        return b"%08x %s\n" % (codec.crc32c(text), text)

    return [
        Target("lines", changed_bytes(file.read_bytes()), _to(work, raw)),
        Target("a line", changed_json(values[1]).map(line), _to(work, read_lines)),
    ]


_INTERVAL = {"value": 0.5, "low": 0.4, "high": 0.6}
_RANKED = {
    "score": "wot",
    "moment": "epoch 0",
    "step": 0,
    "num_networks": 9,
    "conditional": False,
    "train_seconds": 1.5,
    "score_seconds": 0.1,
    **dict.fromkeys(("tau", "rho", "partial", "partial_inputs", "precision", "ndcg"), _INTERVAL),
}
_RANKING = {"about": {"trained": {"network": {"layers": 2}}}, "ranked": [_RANKED, _RANKED]}


def _ranking(file: Path) -> None:
    for row in read_ranking(file):
        assert f"{row.score} {row.tau.value:+.3f} {row.seconds}"
        sorted([row.tau.value, 0.5])
    ranked_training(file)


def _scores(work: Path) -> list[Target]:
    file = work / "scores.parquet"
    rows = [{"run": i, "epoch": 0, "fingerprint": f"{i}", "state_seconds": 0.5} for i in range(40)]
    write_scores(file, ScoreTable({"probe": {"indices": [3]}}, rows))
    truth = read_scores(file)
    columns = parquet.read_table(file)
    head = json.loads(columns.schema.metadata[b"dtb_scores"])

    def raw(path: Path) -> None:
        found = read_scores(path)
        if (found.about, found.rows) != (truth.about, truth.rows):
            raise WrongError("other scores")

    def forged(text: bytes) -> bytes:
        sink = io.BytesIO()
        parquet.write_table(columns.replace_schema_metadata({b"dtb_scores": text}), sink)
        return sink.getvalue()

    def bomb(num_rows: int, num_characters: int, *, is_varied: bool) -> bytes:
        """Rows that take few bytes of a file, under the metadata of a sound one."""
        one: dict[str, Any] = {name: [None] for name in columns.schema.names}
        one["genotype"] = ["a" * num_characters]
        many = pyarrow.table(one, schema=columns.schema).take([0] * num_rows)
        if is_varied:
            place = many.schema.get_field_index("state_seconds")
            seconds = pyarrow.array(np.random.default_rng(0).random(num_rows))
            many = many.set_column(place, many.schema.field(place), seconds)
        sink = io.BytesIO()
        parquet.write_table(many, sink, compression="zstd")
        return sink.getvalue()

    bombs = st.one_of(
        st.builds(bomb, st.sampled_from([10**3, 10**6]), st.just(1), is_varied=st.just(False)),
        st.builds(bomb, st.just(10**4), st.sampled_from([1, 2**12]), is_varied=st.booleans()),
    )
    return [
        Target("scores bytes", changed_bytes(file.read_bytes()), _to(work, raw)),
        Target("scores' metadata", changed_json(head).map(forged), _to(work, read_scores)),
        Target("scores that swell", bombs, _to(work, read_scores)),
    ]


_SIGNATURE = {"host": "a", "process": 1, "since": "2026-01-01"}
_FAILURES = {"messages": ["Traceback ...\nError: no"], "given_up": True}
_TABLE = table_to_array(fake_runs.TABLE)
_FRAME = codec.encode(fake_runs.fake_state(0, 0))


def _lock(work: Path, text: bytes) -> None:
    folder = work / "folder"
    folder.mkdir(exist_ok=True)
    (folder / ".lock.json").write_bytes(text)
    (folder / ".lock").touch()
    with FolderLock(folder).held():
        FolderLock(folder).holders()


def _failures(work: Path, text: bytes) -> None:
    run = PlannedRun(0, 0, 0, 0, "")
    folder = RunFolder(work / "planned")
    folder.working_folder(0).mkdir(parents=True, exist_ok=True)
    folder.failures_file(run).write_bytes(text)
    for message in folder.failures(run).messages:
        message.strip()


def _frame(data: bytes) -> None:
    if (codec.decode(data, num_floats=30) != fake_runs.fake_state(0, 0)).any():
        raise WrongError("another state")


def _manifest(work: Path) -> Path:
    folder = work / "published"
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    for name in ("a.txt", "sub/b.txt"):
        (folder / name).write_text(name)
    write_manifest(folder)
    return folder / MANIFEST


def _sums(work: Path, text: bytes) -> None:
    (work / "published" / MANIFEST).write_bytes(text)
    for checked in verify_manifest(work / "published"):
        if checked.error is None and checked.record not in ("a.txt", "sub/b.txt"):
            raise WrongError(f"{checked.record} is called sound")


def _files(work: Path) -> list[Target]:
    """HDF5 files, whose texts and numbers are others, under right checksums."""
    sound = work / "sound.h5"
    fake_runs.write_shard_of(sound, range(2))
    with h5py.File(sound, "r+") as file:
        put_text(file, schema.PROVENANCE, json.dumps(PROVENANCE).encode())
        seal(file)
    truth = dict(reading.said(sound))

    def text(name: str, data: bytes) -> object:
        forged = work / "forged.h5"
        shutil.copyfile(sound, forged)
        with h5py.File(forged, "r+") as file:
            put_text(file, name, data)
        return _described(forged)

    def column(data: bytes) -> None:
        number, row, value = struct.unpack("<HHq", data)
        forged = work / "forged.h5"
        shutil.copyfile(sound, forged)
        with h5py.File(forged, "r+") as file:
            name = schema.COLUMNS[number % len(schema.COLUMNS)].name
            values = np.asarray(dataset_at(file, name))
            if values.size:
                flat = values.reshape(-1)
                flat[row % len(flat)] = np.array([value], "<i8").astype(flat.dtype)[0]
                dataset_at(file, name)[...] = values
            seal(file)
        for _ in reading.said(forged):
            pass

    def raw(path: Path) -> None:
        superblock.is_marked(path)
        for question, answer in reading.said(path):
            if not isinstance(answer, DTBError) and truth.get(question) != answer:
                raise WrongError(f"{question}: {answer!s:.60}")

    numbers = st.sampled_from([-1, 0, 1, 7, 2**15, 2**31 - 1, 2**31, 2**62, -(2**63)])
    rows = st.builds(
        partial(struct.pack, "<HHq"), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1), numbers
    )
    environment, origin = {"device_name": "fake"}, {"kind": "branched", "epoch": 1, "run": 3}
    return [
        Target("provenance", changed_json(PROVENANCE), partial(text, schema.PROVENANCE)),
        Target("environment", changed_json(environment), partial(text, schema.ENVIRONMENTS)),
        Target("origin", changed_json(origin), partial(text, schema.ORIGINS)),
        Target("HDF5 bytes", changed_bytes(sound.read_bytes()), _to(work, raw)),
        Target("HDF5 columns", rows, column),
    ]


def put_text(file: h5py.File, name: str, data: bytes) -> None:
    """Put another string in place of a text, with right checksums of it alone."""
    for each in (name, schema.checksums_of(name)):
        del file[each]
    file[name] = np.array([data or b" "])
    stored = np.asarray(dataset_at(file, name)[...]).tobytes()
    checksums = np.array(block_checksums(stored), "<u4")
    listed = file.create_dataset(schema.checksums_of(name), data=checksums)
    listed.attrs[schema.CHECKSUM_ATTRIBUTE] = np.uint32(list_checksum(name, checksums.tobytes()))


def _described(file: Path) -> None:
    """Describe a file as people have it described; raises the first typed error at the end."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(["info", str(file)])
        main(["verify", str(file)])
    if any(line != shown(line) for line in said.getvalue().split("\n")):
        raise WrongError("what is printed controls a terminal")
    with Benchmark(file) as benchmark:
        for run in benchmark:
            with contextlib.suppress(DTBError):
                _ = run.origin, run.checkpoint_epochs
        whole_provenance(benchmark)
        device_names(benchmark)
    if code:
        raise ConfigError("info says that it is damaged")
