"""The journal of a run in progress: an append-only file that survives kill -9 at any moment.

A record is a header of 64 bytes (magic, kind, lengths, CRC-32C of the payload, CRC-32C of the
header), a JSON text, and the frames of its moments as the shard will store them: each state's
frame, followed by its momentum's. The first record describes the run; every following record is an
epoch; a final record may say that the run ended early. A record counts only if its checksums are
right and every record before it counts.
"""

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from dtb_builder.dataset import codec
from dtb_builder.dataset.appended import append, create, cut
from dtb_builder.dataset.atomic import whole_file
from dtb_builder.dataset.json_object import check_shape, json_object
from dtb_builder.dataset.schema import ENVIRONMENT_SHAPE, Shape
from dtb_builder.errors import DamagedFileError
from dtb_builder.record import METRICS, TRAINED_HERE, Moment, TensorTable

__all__ = [
    "EpochRecord",
    "Journal",
    "JournalEpoch",
    "JournalMoment",
    "JournalPeek",
    "JournalRun",
    "MomentFrames",
    "append_end",
    "append_epoch",
    "count_epochs",
    "cut_journal",
    "is_complete",
    "open_journal",
    "peek_journal",
    "read_journal",
    "write_journal",
]

T = TypeVar("T")

_HEADER = struct.Struct("<8sIIQQI24s")
_OWN_CHECKSUM = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _OWN_CHECKSUM.size
assert _HEADER_BYTES == 64
_MAGIC = b"DTBJRNL2"
_RUN, _EPOCH, _END = 1, 2, 3
_MAX_TEXT_BYTES = 2**22
_BLOCK_BYTES = 2**22


@dataclass(frozen=True)
class JournalRun:
    """The first record of a journal: which run this is.

    Attributes:
        number: the run's number in the plan.
        genotype: its genotype's canonical text.
        seed: seed of its initialisation.
        order_seed: seed of its data order, augmentation and drop-path.
        plan: SHA-256 of the config of its plan.
        num_parameters: trainable parameters.
        multiply_accumulates: for one image.
        tensors: where each tensor lies in the run's states.
        origin: where the run comes from.
    """

    number: int
    genotype: str
    seed: int
    order_seed: int
    plan: str
    num_parameters: int
    multiply_accumulates: int
    tensors: TensorTable
    origin: Mapping[str, Any] = field(default_factory=lambda: dict(TRAINED_HERE))


class MomentFrames(NamedTuple):
    """The frames of one moment, ready to be stored; ``momentum`` is empty if none is kept."""

    moment: Moment
    frame: bytes
    momentum: bytes = b""


class JournalMoment(NamedTuple):
    """Where the frames of one moment lie in the file; a span of length 0 means no momentum."""

    moment: Moment
    frame: tuple[int, int]
    momentum: tuple[int, int]


class EpochRecord(NamedTuple):
    """One epoch, ready to be written; its fields are those of `JournalEpoch`."""

    epoch: int
    metrics: Mapping[str, float]
    environment: Mapping[str, Any]
    state_crc32c: int
    moments: Sequence[MomentFrames]


@dataclass(frozen=True)
class JournalEpoch:
    """One epoch of a journal; its states stay on disk.

    Attributes:
        epoch: 0 is the initialisation.
        metrics: the metrics that were measured.
        environment: the device and software that the epoch ran on.
        state_crc32c: CRC-32C of the state after the epoch, as trained.
        moments: the kept moments within the epoch and at its end, in order.
        offset: first byte of the record in the file.
    """

    epoch: int
    metrics: Mapping[str, float]
    environment: Mapping[str, Any]
    state_crc32c: int
    moments: tuple[JournalMoment, ...]
    offset: int


@dataclass(frozen=True)
class JournalPeek:
    """The progress of a run.

    Attributes:
        num_epochs: epochs in its journal, epoch 0 included.
        metrics: the last epoch's metrics; empty if there is no epoch.
        environment: the last epoch's environment; empty if there is no epoch.
        has_ended: whether the run ended early.
    """

    num_epochs: int
    metrics: Mapping[str, float]
    environment: Mapping[str, Any]
    has_ended: bool = False


@dataclass(frozen=True)
class Journal:
    """All valid records of a journal.

    Attributes:
        path: the file.
        run: whose journal it is.
        epochs: epochs 0, 1, ... without a gap.
        num_bytes: the file's length up to the end of the last valid record.
        ended: why the run ended before its last epoch; None if it did not.
    """

    path: Path
    run: JournalRun
    epochs: tuple[JournalEpoch, ...]
    num_bytes: int
    ended: str | None = None

    @property
    def last_epoch(self) -> int | None:
        """The last finished epoch, or None if epoch 0 is not finished."""
        return self.epochs[-1].epoch if self.epochs else None

    def is_finished(self, num_epochs: int) -> bool:
        """Whether a run of ``num_epochs`` epochs needs no more training."""
        return self.last_epoch == num_epochs or self.ended is not None

    @property
    def moments(self) -> tuple[JournalMoment, ...]:
        """The kept moments, in order."""
        return tuple(moment for epoch in self.epochs for moment in epoch.moments)

    def read(self, spans: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of each span, one at a time."""
        with self.path.open("rb") as file:
            for offset, length in spans:
                file.seek(offset)
                yield file.read(length)


def read_journal(path: Path) -> Journal | None:
    """The valid records of a journal, or None if its first record is not valid.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: a record's checksums are right, but its content is not a journal's.
    """
    with path.open("rb") as file:
        records = _records(file)
        first = next(records, None)
        if first is None or first.kind != _RUN:
            return None
        run = _parsed(path, _parse_run, first.text)
        epochs: list[JournalEpoch] = []
        ended: str | None = None
        num_bytes = first.end
        for record in records:
            if record.kind == _END:
                ended, num_bytes = str(record.text.get("ended")), record.end
                break
            epoch = _parsed(path, _parse_epoch, record) if record.kind == _EPOCH else None
            if epoch is None or epoch.epoch != len(epochs):
                break
            epochs.append(epoch)
            num_bytes = record.end
    return Journal(path, run, tuple(epochs), num_bytes, ended)


def count_epochs(path: Path) -> int:
    """The number of epochs in a journal, from its headers alone; 0 if there is no journal.

    It reads 64 bytes per record, so polling is cheap; `read_journal` checks the records.
    """
    try:
        with path.open("rb") as file:
            return sum(header.kind == _EPOCH for header in _headers(file))
    except FileNotFoundError:
        return 0


def is_complete(path: Path, num_epochs: int) -> bool:
    """Whether a run has all ``num_epochs`` epochs or ended early, from its headers alone."""
    try:
        with path.open("rb") as file:
            kinds = [header.kind for header in _headers(file)]
    except FileNotFoundError:
        return False
    return kinds.count(_EPOCH) == num_epochs + 1 or kinds[-1:] == [_END]


def peek_journal(path: Path) -> JournalPeek:
    """The progress of a run, from its journal's headers and last epoch's text, unchecked.

    If there is no journal, there are no epochs.
    """
    try:
        with path.open("rb") as file:
            headers = list(_headers(file))
            epochs = [header for header in headers if header.kind == _EPOCH]
            if not epochs:
                return JournalPeek(0, {}, {})
            file.seek(epochs[-1].text_offset)
            body = file.read(epochs[-1].frame_offset - epochs[-1].text_offset)
            text = json_object(body, path)
        check_shape(text, _EPOCH_SHAPE, f"{path}", whole=True)
        metrics, environment = text["metrics"], text["environment"]
    except (FileNotFoundError, DamagedFileError):
        return JournalPeek(0, {}, {})  # the file is gone, half written, or not a journal
    return JournalPeek(len(epochs), metrics, environment, headers[-1].kind == _END)


def open_journal(path: Path, run: JournalRun) -> Journal:
    """Create or recover the journal of a run; invalid records are cut off the file.

    A journal of the same run with another origin is accepted and keeps its origin.

    Raises:
        DamagedFileError: the journal belongs to another run.
    """
    journal = read_journal(path) if path.exists() else None
    if journal is None:
        create(path)
        append(path, first := _record(_RUN, _run_text(run), b""))
        return Journal(path, run, (), len(first))
    if replace(journal.run, origin=run.origin) != run:
        raise DamagedFileError(
            f"{path} is the journal of run {journal.run.number} of plan {journal.run.plan[:12]}, "
            f"not of run {run.number} of plan {run.plan[:12]}"
        )
    cut(path, journal.num_bytes)
    return journal


def cut_journal(journal: Journal, *, num_epochs: int) -> Journal:
    """Cut a journal, and its file, to the first ``num_epochs`` epochs."""
    dropped = journal.epochs[num_epochs:]
    if not dropped:
        return journal
    cut(journal.path, dropped[0].offset)
    return Journal(journal.path, journal.run, journal.epochs[:num_epochs], dropped[0].offset)


def append_epoch(
    path: Path,
    *,
    epoch: int,
    metrics: Mapping[str, float],
    environment: Mapping[str, Any],
    state_crc32c: int,
    moments: Sequence[MomentFrames] = (),
) -> None:
    """Append one epoch; it is on disk when this returns.

    Only the caller may append to this journal meanwhile. A record that was written only in part is
    cut off again. The arguments are the fields of `JournalEpoch`.

    Raises:
        ValueError: a metric is unknown: the schema has no column for it.
    """
    append(path, _epoch_record(epoch, metrics, environment, state_crc32c, moments))


def write_journal(
    path: Path, run: JournalRun, epochs: Iterable[EpochRecord], *, ended: str | None = None
) -> None:
    """Write a whole journal at once; the file is whole or absent.

    Args:
        path: the journal; an existing one is replaced.
        run: whose journal it is.
        epochs: the epochs from 0 on, read one at a time.
        ended: why the run ended before its last epoch.
    """
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(_record(_RUN, _run_text(run), b""))
        for epoch in epochs:
            file.write(_epoch_record(*epoch))
        if ended is not None:
            file.write(_record(_END, {"ended": ended}, b""))


def append_end(path: Path, reason: str) -> None:
    """Record that the run ended after the journal's last epoch; written as `append_epoch`."""
    append(path, _record(_END, {"ended": reason}, b""))


def _epoch_record(
    epoch: int,
    metrics: Mapping[str, float],
    environment: Mapping[str, Any],
    state_crc32c: int,
    moments: Sequence[MomentFrames],
) -> bytes:
    if unknown := sorted(metrics.keys() - METRICS.keys()):
        raise ValueError(f"unknown metrics {', '.join(unknown)}: metrics are {', '.join(METRICS)}")
    text = {
        "epoch": epoch,
        "metrics": dict(metrics),
        "environment": dict(environment),
        "state_crc32c": state_crc32c,
        "moments": [[*kept.moment, len(kept.frame), len(kept.momentum)] for kept in moments],
    }
    return _record(_EPOCH, text, b"".join(data for kept in moments for data in kept[1:]))


def _record(kind: int, text: Mapping[str, Any], frames: bytes) -> bytes:
    """The bytes of one record."""
    body = json.dumps(text, sort_keys=True).encode()
    if len(body) > _MAX_TEXT_BYTES:
        raise ValueError(f"a record's text has {_MAX_TEXT_BYTES} bytes at most, got {len(body)}")
    checksum = codec.crc32c(frames, codec.crc32c(body))
    header = _HEADER.pack(_MAGIC, kind, 0, len(body), len(frames), checksum, bytes(24))
    return header + _OWN_CHECKSUM.pack(codec.crc32c(header)) + body + frames


class _Header(NamedTuple):
    """The content of a record's header, and where the record lies."""

    kind: int
    checksum: int
    offset: int
    text_offset: int
    frame_offset: int
    end: int


class _Record(NamedTuple):
    """Where a record lies in the file, and its text."""

    kind: int
    text: dict[str, Any]
    offset: int
    frame_offset: int
    end: int


def _headers(file: BinaryIO) -> Iterator[_Header]:
    """Each record's header, up to the first damaged header or incomplete record."""
    size = os.fstat(file.fileno()).st_size
    offset = 0
    while True:
        file.seek(offset)
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            return
        magic, kind, _, text_bytes, frame_bytes, checksum, _ = _HEADER.unpack_from(header)
        (own,) = _OWN_CHECKSUM.unpack_from(header, _HEADER.size)
        if magic != _MAGIC or own != codec.crc32c(header[: _HEADER.size]):
            return
        text_offset = offset + _HEADER_BYTES
        frame_offset = text_offset + text_bytes
        end = frame_offset + frame_bytes
        if text_bytes > _MAX_TEXT_BYTES or end > size:
            return
        yield _Header(kind, checksum, offset, text_offset, frame_offset, end)
        offset = end


def _records(file: BinaryIO) -> Iterator[_Record]:
    """Each record, up to the first damaged one."""
    for header in _headers(file):
        file.seek(header.text_offset)
        body = file.read(header.frame_offset - header.text_offset)
        running = codec.crc32c(body)
        for start in range(header.frame_offset, header.end, _BLOCK_BYTES):
            running = codec.crc32c(file.read(min(_BLOCK_BYTES, header.end - start)), running)
        if running != header.checksum:
            return
        text = _parsed(Path(file.name), lambda body: json_object(body, "its text"), body)
        yield _Record(header.kind, text, header.offset, header.frame_offset, header.end)


_RUN_SHAPE: Shape = {
    **dict.fromkeys(("number", "seed", "order_seed"), int),
    **dict.fromkeys(("num_parameters", "multiply_accumulates"), int),
    "genotype": str,
    "plan": str,
    "origin": dict,
    "names": list,
    "shapes": list,
}
_EPOCH_SHAPE: Shape = {
    "epoch": int,
    "state_crc32c": int,
    "moments": list,
    "metrics": {"*": float},
    "environment": ENVIRONMENT_SHAPE,
}


def _parsed(path: Path, parse: Callable[[Any], T], what: Any) -> T:
    try:
        return parse(what)
    except (AttributeError, DamagedFileError, LookupError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path}: a record is not a journal's: {error}") from error


def _run_text(run: JournalRun) -> dict[str, Any]:
    facts = {name: value for name, value in vars(run).items() if name != "tensors"}
    facts["origin"] = dict(run.origin)
    return facts | {"names": run.tensors.names, "shapes": run.tensors.shapes}


def _parse_run(text: dict[str, Any]) -> JournalRun:
    check_shape(text, _RUN_SHAPE, "a run", whole=True)
    names = tuple(text.pop("names"))
    shapes = tuple(tuple(shape) for shape in text.pop("shapes"))
    if not all(isinstance(name, str) for name in names):
        raise ValueError("names of tensors should be strings")
    if not all(type(size) is int for shape in shapes for size in shape):
        raise ValueError("sizes of tensors should be whole numbers")
    return JournalRun(**text, tensors=TensorTable(names, shapes))


def _parse_epoch(record: _Record) -> JournalEpoch:
    check_shape(record.text, _EPOCH_SHAPE, "an epoch", whole=True)
    if unknown := record.text["metrics"].keys() - METRICS.keys():
        raise ValueError(f"unknown metrics {sorted(unknown)}")
    moments: list[JournalMoment] = []
    offset = record.frame_offset
    for step, epoch, base, length, momentum_length in record.text.pop("moments"):
        for number in (step, epoch or 0, base or 0, length, momentum_length):
            if type(number) is not int or number < 0:
                raise ValueError(f"a moment has a number {number!r:.40}")
        frame, momentum = (offset, length), (offset + length, momentum_length)
        moments.append(JournalMoment(Moment(step, epoch, base), frame, momentum))
        offset += length + momentum_length
    if offset != record.end:
        raise ValueError(f"frames of {offset - record.frame_offset} bytes")
    return JournalEpoch(**record.text, moments=tuple(moments), offset=record.offset)
