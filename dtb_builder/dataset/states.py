"""The training states of runs: how they are written, read, checked and salvaged.

Each run has a group with its tensor table and up to three datasets: its whole states, its
differences and its momentum. A dataset has one row per frame, in the order of the moments. The
index holds the offset of each frame, so frames are read without HDF5.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue] - it has no stubs
from numpy.typing import NDArray

from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.index import IndexReader
from dtb_builder.dataset.opening import (
    check_hard,
    damage_is_named,
    dataset_at,
    group_at,
    integer_attribute,
    opened,
    reading_hdf5,
)
from dtb_builder.dataset.source import Location, Source, sibling, wrong_bytes
from dtb_builder.errors import DamagedFileError, DTBError, MissingVolumeError
from dtb_builder.extras import extras_are_named
from dtb_builder.record import Moment, TensorTable, TrainingState

__all__ = [
    "PLACES",
    "Frame",
    "StatePlaces",
    "States",
    "check_plain",
    "frame_rows",
    "table_from_bytes",
    "table_to_array",
    "without_states",
    "write_states",
]

_ZSTD_FILTER = 32015
_PREFIX = {schema.WHOLE: "", schema.DIFFERENCES: "", schema.MOMENTUM: "momentum_"}
"""The prefix of the columns in moments/ that locate the frames of each dataset."""

_LONGEST_NAME = 255

Frame = Callable[[str, int], bytes]
"""Returns a frame, given the dataset's name and the moment's position."""


class StatePlaces(NamedTuple):
    """A run's entries in the columns that locate its states; arrays have shape (moments,)."""

    volume: int
    num_floats: int
    num_tensors: int
    tensors_offset: int
    tensors_crc32c: int
    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    crc32c: NDArray[np.uint32]
    momentum_offset: NDArray[np.int64]
    momentum_length: NDArray[np.int64]
    momentum_crc32c: NDArray[np.uint32]

    @classmethod
    def of(cls, cells: Mapping[str, NDArray[Any]]) -> "StatePlaces":
        """The places from a run's entries in the columns PLACES."""
        entries: list[Any] = [cells[name] for name in PLACES]
        return cls(*(entry if entry.ndim else entry.item() for entry in entries))

    def frame(self, name: str, position: int) -> tuple[int, int, int]:
        """The offset, length and checksum of the frame of a dataset at a moment."""
        columns = (getattr(self, f"{_PREFIX[name]}{n}") for n in ("offset", "length", "crc32c"))
        offset, length, checksum = (int(column[position]) for column in columns)
        return offset, length, checksum

    @property
    def table(self) -> tuple[int, int, int]:
        """The offset, length and checksum of the tensor table."""
        num_bytes = self.num_tensors * schema.TENSOR_DTYPE.itemsize
        return self.tensors_offset, num_bytes, self.tensors_crc32c

    @property
    def has_table(self) -> bool:
        """Whether the file has the tensor table; copies without states leave it out."""
        return self.tensors_offset != 0


PLACES = tuple(
    f"{'runs' if i < 5 else 'moments'}/{name}" for i, name in enumerate(StatePlaces._fields)
)
"""The columns that locate states."""


def frame_rows(
    moments: Sequence[Moment], length: NDArray[np.int64], momentum_length: NDArray[np.int64]
) -> dict[str, list[int]]:
    """For each dataset of a run, the position of the moment of each row.

    Args:
        moments: the moments of the file.
        length: bytes of the run's state frames, 0 where there is none, shape (moments,).
        momentum_length: bytes of the run's momentum frames, likewise.
    """
    kept = np.flatnonzero(length).tolist()
    return {
        schema.WHOLE: [position for position in kept if moments[position].base is None],
        schema.DIFFERENCES: [position for position in kept if moments[position].base is not None],
        schema.MOMENTUM: np.flatnonzero(momentum_length).tolist(),
    }


# Written.


def write_states(
    file: h5py.File,
    number: int,
    table: NDArray[np.void],
    moments: Sequence[Moment],
    lengths: tuple[NDArray[np.int64], NDArray[np.int64]],
    frame: Frame,
    *,
    num_floats: int,
) -> dict[str, Any]:
    """Write a run's states; the frames are not decoded.

    Args:
        file: the file being written.
        number: the run's number.
        table: the tensor table, of dtype `schema.TENSOR_DTYPE`.
        moments: the moments of the file.
        lengths: the state and momentum lengths, as in `frame_rows`.
        frame: returns a frame; called for one at a time.
        num_floats: length of each state.

    Returns:
        the run's entries in the columns that locate its states, except the volume.
    """
    group = file.create_group(schema.run_group(number)).id
    tensors = _created(group, schema.TENSORS, schema.TENSOR_DTYPE, (len(table),))
    tensors.write(h5py.h5s.ALL, h5py.h5s.ALL, table, _kind(schema.TENSOR_DTYPE))
    cells: dict[str, Any] = {
        "runs/num_floats": num_floats,
        "runs/num_tensors": len(table),
        "runs/tensors_offset": tensors.get_offset(),
        "runs/tensors_crc32c": codec.crc32c(table.tobytes()),
    }
    for prefix in ("", "momentum_"):
        for column, kind in (("offset", np.int64), ("length", np.int64), ("crc32c", np.uint32)):
            cells[f"moments/{prefix}{column}"] = np.zeros(len(moments), kind)
    for name, positions in frame_rows(moments, *lengths).items():
        if not positions:
            continue
        dataset = _created(group, name, _dtype(name), (len(positions), num_floats))
        for row, position in enumerate(positions):
            data = frame(name, position)
            dataset.write_direct_chunk((row, 0), data)
            offset = dataset.get_chunk_info_by_coord((row, 0)).byte_offset
            place = {"offset": offset, "length": len(data), "crc32c": codec.crc32c(data)}
            for column, value in place.items():
                cells[f"moments/{_PREFIX[name]}{column}"][position] = value
    return cells


def without_states(places: StatePlaces) -> dict[str, Any]:
    """The entries that `write_states` returns, for a copy in a file without moments."""
    facts = places._replace(tensors_offset=0)._asdict()
    return {
        name: value[:0] if isinstance(value, np.ndarray) else value
        for name, value in zip(PLACES, facts.values(), strict=True)
    }


def _created(
    group: h5py.h5g.GroupID, name: str, dtype: np.dtype, shape: tuple[int, ...]
) -> h5py.h5d.DatasetID:
    """Create a dataset; a 2-d one has a chunk per row. The low-level API of h5py is faster."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_obj_track_times(False)  # so that two merges have equal bytes
    if len(shape) > 1:
        with extras_are_named("writing states"):
            import hdf5plugin  # registers the filter

        settings.set_chunk((1, shape[1]))
        settings.set_shuffle()
        settings.set_filter(hdf5plugin.Zstd.filter_id, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple(shape)
    return h5py.h5d.create(group, name.encode(), _kind(dtype), space, settings)


@cache
def _kind(dtype: np.dtype) -> h5py.h5t.TypeID:
    """The HDF5 type of a dtype; cached, because the tensor table's is slow to create."""
    return h5py.h5t.py_create(dtype, logical=True)


def _dtype(name: str) -> np.dtype:
    """The dtype of a dataset of states: floats, or the integer codes of differences."""
    return np.dtype("<u4" if name == schema.DIFFERENCES else "<f4")


def table_to_array(table: TensorTable) -> NDArray[np.void]:
    """A tensor table as stored in a file.

    Raises:
        ValueError: a name or a shape is too long for the schema, or a state is empty or too long
            for it.
    """
    if not 1 <= table.num_floats <= schema.MAX_FLOATS:
        raise ValueError(f"a state has 1 to {schema.MAX_FLOATS} floats, got {table.num_floats}")
    width = schema.TENSOR_DTYPE["name"].itemsize
    max_rank = schema.TENSOR_DTYPE["shape"].shape[0]
    array = np.ones(len(table.names), schema.TENSOR_DTYPE)
    rows = zip(table.names, table.shapes, table.offsets[:-1], strict=True)
    for row, (name, shape, offset) in enumerate(rows):
        encoded = name.encode()
        if len(encoded) > width or len(shape) > max_rank:
            raise ValueError(
                f"a tensor's name has at most {width} bytes and its shape {max_rank} sizes, "
                f"got {name!r} of shape {shape}"
            )
        padded = shape + (1,) * (max_rank - len(shape))
        array[row] = (encoded, len(shape), padded, offset)
    return array


# Read.


def table_from_bytes(data: bytes) -> TensorTable:
    """The tensor table from the bytes of its rows.

    Raises:
        DamagedFileError: the bytes are not a tensor table.
    """
    try:
        rows = np.frombuffer(data, schema.TENSOR_DTYPE)
        names = tuple(name.decode() for name in rows["name"].tolist())
        shapes = tuple(
            tuple(shape[:rank])
            for shape, rank in zip(rows["shape"].tolist(), rows["rank"].tolist(), strict=True)
        )
        table = TensorTable(names, shapes)
    except ValueError as error:
        raise DamagedFileError(f"a tensor table: {error}") from error
    beyond = np.arange(rows["shape"].shape[1]) >= rows["rank"][:, None]
    if (rows["rank"] > rows["shape"].shape[1]).any() or (rows["shape"][beyond] != 1).any():
        raise DamagedFileError("a tensor table's ranks do not fit its shapes")
    if table.offsets[:-1] != tuple(rows["offset"].tolist()):
        raise DamagedFileError("a tensor table's offsets do not follow from its shapes")
    return table


class States:
    """The states of an open file, addressed by the run's row and the moment's position.

    Raises:
        MissingVolumeError: in any method: the file with the run's states is missing.
        DamagedFileError: in any method: the bytes are not those that were written.
    """

    def __init__(self, index: IndexReader, file: h5py.File, source: Source) -> None:
        self._index = index
        self._file = file
        self._source = source
        self._path = source.location
        self._sources: dict[int, Source] = {}
        self._listed: tuple[str, h5py.File] | None = None
        self._last: tuple[int, StatePlaces] | None = None

    def close(self) -> None:
        """Close the volumes."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        if self._listed is not None:
            self._listed[1].close()
            self._listed = None

    def places(self, row: int) -> StatePlaces:
        """Where the states of a row lie."""
        last = self._last
        if last is None or last[0] != row:  # the next request is often for the same run
            self._last = last = row, StatePlaces.of(self._index.cells(PLACES, row))
        return last[1]

    def length(self, row: int, column: str) -> NDArray[np.int64]:
        """A run's entry in ``moments/length`` or ``moments/momentum_length``."""
        last = self._last
        if last is not None and last[0] == row:
            return getattr(last[1], column)
        return self._index.cell(f"moments/{column}", row)

    def tensors(self, row: int) -> TensorTable:
        """Where each named tensor lies in the states of a row."""
        places = self.places(row)
        data = self.table_bytes(places)
        with damage_is_named(self._path):
            table = table_from_bytes(data)
            if table.num_floats != places.num_floats:
                raise DamagedFileError(
                    f"a tensor table of {table.num_floats} floats for states of {places.num_floats}"
                )
        return table

    def state(self, row: int, position: int) -> TrainingState:
        """The state at a kept moment."""
        (values,) = self.vectors(self.places(row), [position])
        return TrainingState(values, self._index.moments[position].step)

    def vectors(
        self, places: StatePlaces, positions: Sequence[int]
    ) -> Iterator[NDArray[np.float32]]:
        """A run's states at some kept moments, requested together, each of shape (num_floats,).

        The bases of differences are read too; the base of several is decoded once.
        """
        bases = {position: self._index.moments[position].base for position in positions}
        whole = {at if base is None else base for at, base in bases.items()}
        wanted = [(schema.WHOLE, position) for position in sorted(whole)]
        wanted += [(schema.DIFFERENCES, at) for at, base in bases.items() if base is not None]
        found = _read(self._volume(places.volume), [places.frame(*each) for each in wanted])
        frames = dict(zip(wanted, found, strict=True))
        decoded = {at: self._decoded(frames[schema.WHOLE, at], places) for at in whole}
        for position, base in bases.items():
            if base is None:
                yield decoded[position]
            else:
                with damage_is_named(self._path):
                    frame = frames[schema.DIFFERENCES, position]
                    values = codec.decode_difference(frame, decoded[base])
                yield values

    def momentum(self, row: int, position: int) -> NDArray[np.float32]:
        """The momentum at a moment where it is kept, shape (num_floats,)."""
        places = self.places(row)
        return self._decoded(self.frame(places, schema.MOMENTUM, position), places)

    def _decoded(self, frame: bytes, places: StatePlaces) -> NDArray[np.float32]:
        with damage_is_named(self._path):
            if not 1 <= places.num_floats <= schema.MAX_FLOATS:
                raise DamagedFileError(
                    f"expected a state of 1 to {schema.MAX_FLOATS} floats, got {places.num_floats}"
                )
            return codec.decode(frame, num_floats=places.num_floats)

    def table_bytes(self, places: StatePlaces) -> bytes:
        """The stored bytes of a run's tensor table."""
        return _read(self._volume(places.volume), [places.table])[0]

    def frame(self, places: StatePlaces, name: str, position: int) -> bytes:
        """The stored frame of a dataset at a moment."""
        return _read(self._volume(places.volume), [places.frame(name, position)])[0]

    def _volume(self, number: int) -> Source:
        """A volume by its number."""
        if number not in self._sources:
            self._index.check_open()
            names = self._index.texts(schema.VOLUMES)
            if not 0 <= number < len(names):
                raise DamagedFileError(f"{self._path}: no volume {number} of {len(names)}")
            if names[number] == "":
                return self._source
            file, source = self._opened(names[number])
            file.close()
            self._sources[number] = source
        return self._sources[number]

    def _opened(self, name: str) -> tuple[h5py.File, Source]:
        """Open a volume with HDF5 and as a source of bytes; the caller closes both."""
        check_plain(name, self._path)
        location = sibling(self._path, name)
        try:
            file, source = opened(location)
        except FileNotFoundError:
            message = f"{location} is missing; it holds states of {self._path}"
            raise MissingVolumeError(message) from None
        try:
            found = integer_attribute(file, location, schema.PROVENANCE_ATTRIBUTE)
            if found != integer_attribute(self._file, self._path, schema.PROVENANCE_ATTRIBUTE):
                raise DamagedFileError(f"{location} belongs to another benchmark than {self._path}")
        except BaseException:
            file.close()
            source.close()
            raise
        return file, source

    # Checked.

    def check_lists(self) -> None:
        """Check that HDF5 can list the groups of the schema, in the file and in its volumes."""
        groups = sorted({name.rpartition("/")[0] for name in _index_names()})
        with reading_hdf5(self._path):
            for name in groups:
                _members(group_at(self._file, name))
        for name in {"", *self._index.texts(schema.VOLUMES)}:
            file = self._hdf5(name)
            with reading_hdf5(sibling(self._path, name) if name else self._path):
                if schema.STATES_GROUP in _members(file):
                    _members(group_at(file, schema.STATES_GROUP))

    def check_hdf5(self, row: int, number: int) -> None:
        """Check that HDF5 and the index agree on where a run's states lie.

        Args:
            row: the run's row.
            number: the run's number.

        Raises:
            DamagedFileError: they disagree, so other HDF5 tools would read something else.
        """
        places = self.places(row)
        self._volume(places.volume)
        rows = frame_rows(self._index.moments, places.length, places.momentum_length)
        file = self._hdf5(self._index.texts(schema.VOLUMES)[places.volume])
        with reading_hdf5(self._path):
            if not places.has_table:
                if schema.run_group(number) in file or any(rows.values()):
                    raise DamagedFileError(f"run {number} has states, but no tensor table")
                return
            group = group_at(file, schema.run_group(number))
            expected = {schema.TENSORS, *(name for name, positions in rows.items() if positions)}
            if (found := _members(group)) != expected:
                raise DamagedFileError(f"{group.name}: expected {expected}, got {found}")
            tensors = dataset_at(group, schema.TENSORS)
            kind, shape = tensors.id.get_type(), tensors.id.shape
            if kind != _kind(schema.TENSOR_DTYPE) or shape != (places.num_tensors,):
                raise DamagedFileError(f"{tensors.name}: {tensors.dtype} of shape {shape}")
            if places.num_tensors and tensors.id.get_offset() != places.tensors_offset:
                raise DamagedFileError(f"{tensors.name}: HDF5 finds another table than the index")
            for name in expected - {schema.TENSORS}:
                _check_frames(dataset_at(group, name), name, rows[name], places)

    def _hdf5(self, name: str) -> h5py.File:
        """The HDF5 file of a volume; the last one stays open for the next run."""
        if name == "":
            return self._file
        if self._listed is None or self._listed[0] != name:
            if self._listed is not None:
                self._listed[1].close()
                self._listed = None
            file, source = self._opened(name)
            source.close()
            self._listed = name, file
        return self._listed[1]

    # Salvaged.

    def salvaged(
        self, number: int, places: StatePlaces, name: str, at: tuple[int, int] | None = None
    ) -> bytes:
        """A tensor table or a frame, read at the index's offset or, if that is wrong, at HDF5's.

        Args:
            number: the run's number.
            places: from the run's row of the index; those of `schema.POINTERS` may be wrong.
            name: the dataset's name.
            at: the frame's row in the dataset, and the position of its moment; None for the table.

        Raises:
            DamagedFileError: the bytes are at neither offset.
        """
        place = places.table if at is None else places.frame(name, at[1])
        row = None if at is None else at[0]
        for source, offset in self._found(number, name, row, places.volume, place[0]):
            with contextlib.suppress(DamagedFileError):
                return _read(source, [(offset, *place[1:])])[0]
        what = {schema.TENSORS: "tensor table", schema.MOMENTUM: "momentum"}.get(name, "state")
        after = "" if at is None else f" after {self._index.moments[at[1]].name}"
        raise DamagedFileError(f"the {what} of run {number}{after} is damaged")

    def _found(
        self, number: int, name: str, row: int | None, volume: int, offset: int
    ) -> Iterator[tuple[Source, int]]:
        """Where a dataset or frame of a run may lie: first by the index, then by HDF5."""
        with contextlib.suppress(DTBError):
            yield self._volume(volume), offset
        with contextlib.suppress(DTBError):
            for other, file_name in enumerate(self._index.texts(schema.VOLUMES)):
                file = self._hdf5(file_name)
                with reading_hdf5(self._path):
                    if schema.run_group(number) not in file:
                        continue
                    dataset = dataset_at(file, f"{schema.run_group(number)}/{name}")
                    found = (
                        dataset.id.get_offset()
                        if row is None
                        else dataset.id.get_chunk_info_by_coord((row, 0)).byte_offset
                    )
                if found is not None:
                    yield self._volume(other), int(found)


def check_plain(name: str, path: Location) -> None:
    """Check that a volume's name is a plain file name, without a folder.

    Raises:
        DamagedFileError: it is not.
    """
    if Path(name).name != name or name == ".." or len(name.encode()) > _LONGEST_NAME:
        raise DamagedFileError(f"{path}: volume {name[:80]!r} is not a plain file name")


def _index_names() -> list[str]:
    names = [*schema.TEXTS, *(column.name for column in schema.COLUMNS)]
    return [*names, *map(schema.checksums_of, names)]


def _members(group: h5py.Group) -> set[str]:
    """The names in a group; checks that HDF5 can read each object's header."""
    names = set(group.id)
    for name in names:
        check_hard(group, name)
        h5o.get_info(group.id, name)
    return {name.decode() for name in names}


def _check_frames(
    dataset: h5py.Dataset, name: str, positions: Sequence[int], places: StatePlaces
) -> None:
    shape = (len(positions), places.num_floats)
    found = dataset.id.dtype, dataset.id.shape
    if found != (_dtype(name), shape):
        raise DamagedFileError(f"{dataset.name}: {found[0]} of shape {found[1]}")
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if filters != [h5py.h5z.FILTER_SHUFFLE, _ZSTD_FILTER]:
        raise DamagedFileError(f"{dataset.name}: expected shuffle and zstd, got filters {filters}")
    for row, position in enumerate(positions):
        chunk = dataset.id.get_chunk_info_by_coord((row, 0))
        offset, length, _ = places.frame(name, position)
        if (chunk.byte_offset, chunk.size, chunk.filter_mask) != (offset, length, 0):
            raise DamagedFileError(f"{dataset.name}: HDF5 finds another row {row} than the index")


def _read(source: Source, places: Sequence[tuple[int, int, int]]) -> list[bytes]:
    """Spans of a file, requested together; each is verified by its checksum."""
    found = source.read_many([(offset, length) for offset, length, _ in places])
    for data, (offset, length, checksum) in zip(found, places, strict=True):
        if codec.crc32c(data) != checksum:
            what = f"{source.location}: the checksum of the {length} bytes at {offset} is wrong"
            raise wrong_bytes(source, what)
    return found
