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
from typing import Any, BinaryIO, NamedTuple, ParamSpec, TypeVar

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
    "cut_journal",
    "open_journal",
    "peek_journal",
    "read_journal",
    "write_journal",
]

P = ParamSpec("P")
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
    """The progress of a run, from its journal's headers and the text of its last epoch.

    Attributes:
        num_epochs: epochs in its journal, epoch 0 included.
        has_ended: whether the run ended early.
        metrics: the last epoch's metrics; empty if there is no epoch.
        environment: the last epoch's environment; empty if there is no epoch.
    """

    num_epochs: int = 0
    has_ended: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    def is_finished(self, num_epochs: int) -> bool:
        """Whether a run of ``num_epochs`` epochs needs no more training."""
        return self.num_epochs == num_epochs + 1 or self.has_ended


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
        records = _checked(file)
        first, text = next(records, (None, {}))
        if first is None or first.kind != _RUN:
            return None
        run = _parsed(path, _parse_run, text)
        epochs: list[JournalEpoch] = []
        ended: str | None = None
        num_bytes = first.end
        for record, text in records:
            if record.kind == _END:
                ended, num_bytes = str(text.get("ended")), record.end
                break
            epoch = _parsed(path, _parse_epoch, record, text) if record.kind == _EPOCH else None
            if epoch is None or epoch.epoch != len(epochs):
                break
            epochs.append(epoch)
            num_bytes = record.end
    return Journal(path, run, tuple(epochs), num_bytes, ended)


def peek_journal(path: Path) -> JournalPeek:
    """The progress of a run; nothing but the headers is checked, so polling is cheap.

    If there is no journal, there are no epochs. `read_journal` checks all.
    """
    try:
        with path.open("rb") as file:
            records = list(_records(file))
            epochs = [record for record in records if record.kind == _EPOCH]
            text = _text(file, epochs[-1]) if epochs else b""
    except FileNotFoundError:
        return JournalPeek()
    peek = JournalPeek(len(epochs), bool(records) and records[-1].kind == _END)
    try:
        last = json_object(text, path)
        check_shape(last, _EPOCH_SHAPE, f"{path}", whole=True)
    except DamagedFileError:  # there is no epoch, or its text is not yet written or damaged
        return peek
    return replace(peek, metrics=last["metrics"], environment=last["environment"])


def open_journal(path: Path, run: JournalRun) -> Journal:
    """Create or recover the journal of a run; invalid records are cut off the file.

    A journal of the same run with another origin is accepted and keeps its origin.

    Raises:
        DamagedFileError: the journal belongs to another run.
    """
    journal = read_journal(path) if path.exists() else None
    if journal is None:
        create(path)
        append(path, first := _record_bytes(_RUN, _run_text(run)))
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
    epochs, num_bytes = journal.epochs[:num_epochs], dropped[0].offset
    return replace(journal, epochs=epochs, num_bytes=num_bytes, ended=None)


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
    append(path, _epoch_bytes(EpochRecord(epoch, metrics, environment, state_crc32c, moments)))


def write_journal(
    path: Path, run: JournalRun, epochs: Iterable[EpochRecord], *, ended_early: bool
) -> None:
    """Write a whole journal at once; the file is whole or absent.

    Args:
        path: the journal; an existing one is replaced.
        run: whose journal it is.
        epochs: the epochs from 0 on, read one at a time.
        ended_early: whether the run ended before its last epoch.
    """
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(_record_bytes(_RUN, _run_text(run)))
        for epoch in epochs:
            file.write(_epoch_bytes(epoch))
        if ended_early:
            file.write(_record_bytes(_END, {"ended": "it ended early"}))


def append_end(path: Path, reason: str) -> None:
    """Record that the run ended after the journal's last epoch; written as `append_epoch`."""
    append(path, _record_bytes(_END, {"ended": reason}))


def _epoch_bytes(record: EpochRecord) -> bytes:
    if unknown := sorted(record.metrics.keys() - METRICS.keys()):
        raise ValueError(f"unknown metrics {', '.join(unknown)}: metrics are {', '.join(METRICS)}")
    text = record._asdict() | {
        "metrics": dict(record.metrics),
        "environment": dict(record.environment),
        "moments": [[*kept.moment, len(kept.frame), len(kept.momentum)] for kept in record.moments],
    }
    return _record_bytes(_EPOCH, text, b"".join(d for kept in record.moments for d in kept[1:]))


def _record_bytes(kind: int, text: Mapping[str, Any], frames: bytes = b"") -> bytes:
    body = json.dumps(text, sort_keys=True).encode()
    if len(body) > _MAX_TEXT_BYTES:
        raise ValueError(f"a record's text has {_MAX_TEXT_BYTES} bytes at most, got {len(body)}")
    checksum = codec.crc32c(frames, codec.crc32c(body))
    header = _HEADER.pack(_MAGIC, kind, 0, len(body), len(frames), checksum, bytes(24))
    return header + _OWN_CHECKSUM.pack(codec.crc32c(header)) + body + frames


class _Record(NamedTuple):
    """The content of a record's header, and where the record lies."""

    kind: int
    checksum: int
    offset: int
    text_offset: int
    frame_offset: int
    end: int


def _records(file: BinaryIO) -> Iterator[_Record]:
    """Each record, from its header, up to the first damaged header or incomplete record."""
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
        yield _Record(kind, checksum, offset, text_offset, frame_offset, end)
        offset = end


def _checked(file: BinaryIO) -> Iterator[tuple[_Record, dict[str, Any]]]:
    """Each record and its text, up to the first damaged one."""
    for record in _records(file):
        body = _text(file, record)
        running = codec.crc32c(body)
        for start in range(record.frame_offset, record.end, _BLOCK_BYTES):
            running = codec.crc32c(file.read(min(_BLOCK_BYTES, record.end - start)), running)
        if running != record.checksum:
            return
        yield record, _parsed(Path(file.name), json_object, body, "its text")


def _text(file: BinaryIO, record: _Record) -> bytes:
    file.seek(record.text_offset)
    return file.read(record.frame_offset - record.text_offset)


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


def _parsed(path: Path, parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return parse(*args, **kwargs)
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


def _parse_epoch(record: _Record, text: dict[str, Any]) -> JournalEpoch:
    check_shape(text, _EPOCH_SHAPE, "an epoch", whole=True)
    if unknown := text["metrics"].keys() - METRICS.keys():
        raise ValueError(f"unknown metrics {sorted(unknown)}")
    moments: list[JournalMoment] = []
    offset = record.frame_offset
    for step, epoch, base, length, momentum_length in text.pop("moments"):
        for number in (step, epoch or 0, base or 0, length, momentum_length):
            if type(number) is not int or number < 0:
                raise ValueError(f"a moment has a number {number!r:.40}")
        frame, momentum = (offset, length), (offset + length, momentum_length)
        moments.append(JournalMoment(Moment(step, epoch, base), frame, momentum))
        offset += length + momentum_length
    if offset != record.end:
        raise ValueError(f"frames of {offset - record.frame_offset} bytes")
    return JournalEpoch(**text, moments=tuple(moments), offset=record.offset)
