"""The training states in a DTB file: one dataset per run, found again by byte offset."""

from collections.abc import Iterable
from dataclasses import dataclass

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.opening import dataset_at
from dtb_builder.dataset.source import Location, Source
from dtb_builder.errors import DamagedFileError
from dtb_builder.record import TensorTable

__all__ = [
    "FramePlaces",
    "Frames",
    "SpanReader",
    "StatePlaces",
    "check_states",
    "table_from_bytes",
    "table_to_array",
    "write_states",
]


@dataclass(frozen=True, eq=False)
class FramePlaces:
    """Where the frames of a dataset of states lie in their file, each array of shape (states,)."""

    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    crc32c: NDArray[np.uint32]


_NO_PLACES = FramePlaces(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint32))


@dataclass(frozen=True, eq=False)
class StatePlaces:
    """Where the states of one run lie in their file.

    Attributes:
        tensors_offset: of the tensor table.
        tensors_crc32c: of the tensor table.
        epochs: the kept states after epochs.
        steps: the states after steps of the first epoch.
        differences: the states that are stored as differences to kept ones.
    """

    tensors_offset: int
    tensors_crc32c: int
    epochs: FramePlaces
    steps: FramePlaces
    differences: FramePlaces


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames that are to be written, one at a time.

    Attributes:
        number: how many come.
        frames: they themselves.
    """

    number: int
    frames: Iterable[bytes]


def write_states(
    file: h5py.File,
    number: int,
    table: NDArray[np.void],
    *,
    epochs: Frames,
    steps: Frames,
    differences: Frames,
    num_floats: int,
) -> StatePlaces:
    """Write a run's states as they are, without decoding them.

    Args:
        file: a file under construction.
        number: the run's.
        table: the tensor table, of `schema.TENSOR_DTYPE`.
        epochs: each kept state's frame, in the order of the epochs.
        steps: the frame of each state after a step, in the order of the steps.
        differences: the frame of each state that is a difference, in the order of their epochs.
        num_floats: length of each state.
    """
    group = file.create_group(schema.run_group(number))
    tensors = group.create_dataset(schema.TENSORS, data=table)
    return StatePlaces(
        tensors_offset=tensors.id.get_offset(),
        tensors_crc32c=codec.crc32c(table.tobytes()),
        epochs=_write_frames(group, schema.VALUES, epochs, num_floats),
        steps=_write_some(group, schema.STEP_VALUES, steps, num_floats),
        differences=_write_some(group, schema.DIFFERENCE_VALUES, differences, num_floats),
    )


def _write_some(group: h5py.Group, name: str, frames: Frames, num_floats: int) -> FramePlaces:
    """Write a dataset of states, or none where none are to come."""
    return _write_frames(group, name, frames, num_floats) if frames.number else _NO_PLACES


def _write_frames(group: h5py.Group, name: str, frames: Frames, num_floats: int) -> FramePlaces:
    values = group.create_dataset(
        name,
        shape=(frames.number, num_floats),
        dtype=_dtype(name),
        chunks=(1, num_floats) if frames.number else None,
        shuffle=bool(frames.number),
        **(hdf5plugin.Zstd(clevel=1) if frames.number else {}),
    )
    places: list[tuple[int, int, int]] = []
    for row, frame in enumerate(frames.frames):
        values.id.write_direct_chunk((row, 0), frame)
        offset = values.id.get_chunk_info_by_coord((row, 0)).byte_offset
        places.append((offset, len(frame), codec.crc32c(frame)))
    assert len(places) == frames.number, f"{frames.number} states promised, {len(places)} came"
    offset, length, checksum = np.array(places, np.int64).reshape(-1, 3).T
    return FramePlaces(offset, length, checksum.astype(np.uint32))


def _dtype(name: str) -> np.dtype:
    """Of a dataset of states: floats, or the codes of differences."""
    return np.dtype("<u4" if name == schema.DIFFERENCE_VALUES else "<f4")


def check_states(
    file: h5py.File, number: int, places: StatePlaces, *, num_tensors: int, num_floats: int
) -> None:
    """See that HDF5 itself finds a run's states where the index does.

    Raises:
        DamagedFileError: it does not, so that other HDF5 tools would read something else.
    """
    group = schema.run_group(number)
    tensors = dataset_at(file, f"{group}/{schema.TENSORS}")
    if (tensors.dtype, tensors.shape) != (schema.TENSOR_DTYPE, (num_tensors,)):
        raise DamagedFileError(f"{tensors.name}: {tensors.dtype} of shape {tensors.shape}")
    if num_tensors and tensors.id.get_offset() != places.tensors_offset:
        raise DamagedFileError(f"{tensors.name}: HDF5 finds another table than the index")
    _check_frames(file, f"{group}/{schema.VALUES}", places.epochs, num_floats)
    for name, found in (
        (schema.STEP_VALUES, places.steps),
        (schema.DIFFERENCE_VALUES, places.differences),
    ):
        if len(found.offset):
            _check_frames(file, f"{group}/{name}", found, num_floats)


def _check_frames(file: h5py.File, name: str, places: FramePlaces, num_floats: int) -> None:
    values = dataset_at(file, name)
    num_states = len(places.offset)
    dtype = _dtype(name.rpartition("/")[2])
    if (values.dtype, values.shape) != (dtype, (num_states, num_floats)):
        raise DamagedFileError(f"{values.name}: {values.dtype} of shape {values.shape}")
    if not num_states:
        return
    settings = values.id.get_create_plist()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if filters != [h5py.h5z.FILTER_SHUFFLE, hdf5plugin.Zstd.filter_id]:
        raise DamagedFileError(f"{values.name}: expected shuffle and zstd, got filters {filters}")
    for row, place in enumerate(zip(places.offset, places.length, strict=True)):
        chunk = values.id.get_chunk_info_by_coord((row, 0))
        if (chunk.byte_offset, chunk.size, chunk.filter_mask) != (*place, 0):
            raise DamagedFileError(f"{values.name}: HDF5 finds another state {row} than the index")


def table_to_array(table: TensorTable) -> NDArray[np.void]:
    """A tensor table as it stands in a file.

    Raises:
        ValueError: a name or a shape is longer than the schema's row, or the states are empty or
            longer than the schema allows.
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


def table_from_bytes(data: bytes) -> TensorTable:
    """The tensor table whose rows these are.

    Raises:
        DamagedFileError: they are not the rows of a tensor table.
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
    if table.offsets[:-1] != tuple(rows["offset"].tolist()):
        raise DamagedFileError("a tensor table's offsets do not follow from its shapes")
    return table


class SpanReader:
    """Reads spans of bytes of an open file, each in one request, checked against its checksum."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def location(self) -> Location:
        """The file."""
        return self._source.location

    def read(self, offset: int, length: int, checksum: int) -> bytes:
        """The bytes of a span.

        Raises:
            DamagedFileError: they are not there, or not those that were written.
        """
        data = self._source.read(offset, length)
        if codec.crc32c(data) != checksum:
            raise DamagedFileError(
                f"{self.location}: the checksum of the {length} bytes at {offset} is wrong"
            )
        return data

    def close(self) -> None:
        """Give the file back."""
        self._source.close()
