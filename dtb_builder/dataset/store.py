"""What benchmarks and runs read through: the columns and the states of one open file."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.index import IndexReader, check_differences
from dtb_builder.dataset.opening import (
    damage_is_named,
    dataset_at,
    integer_attribute,
    is_of_newer_minor,
    opened,
    reading_hdf5,
)
from dtb_builder.dataset.remote import RemoteSource
from dtb_builder.dataset.source import Location, Source, located, sibling
from dtb_builder.dataset.states import (
    FramePlaces,
    SpanReader,
    StatePlaces,
    check_states,
    table_from_bytes,
)
from dtb_builder.errors import (
    DamagedFileError,
    DTBError,
    MissingVolumeError,
    NotFoundError,
    SchemaVersionError,
)
from dtb_builder.record import METRICS, TensorTable, TrainingState, whole_number
from dtb_builder.space import Genotype

__all__ = ["FailedRun", "Store"]

_PLACE = ("offset", "length", "crc32c")
_DATASETS = {
    "state_index": schema.VALUES,
    "step_index": schema.STEP_VALUES,
    "difference_index": schema.DIFFERENCE_VALUES,
}
"""The dataset of states that each group of the index leads to."""


@dataclass(frozen=True)
class FailedRun:
    """A run that was tried as often as allowed and never finished.

    Attributes:
        number: the run's number in the plan.
        genotype: its genotype.
        seed: its seed.
        attempts: how often it was tried.
        message: the last attempt's traceback.
    """

    number: int
    genotype: Genotype
    seed: int
    attempts: int
    message: str


class Store:
    """An open benchmark or shard, addressed by row.

    Raises:
        FileNotFoundError: there is no such file.
        NotDTBFileError: it is not a DTB file.
        SchemaVersionError: it needs another version of this package.
        DamagedFileError: here or in any method: the bytes are not those that were written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = located(path)
        self._file, self._source = opened(self.path)
        try:
            if isinstance(self._source, RemoteSource):
                self._source.check_ranges()
            self.index = IndexReader(self._file, self._source)
            if isinstance(self._source, RemoteSource):
                self.index.fetch()
        except BaseException as error:
            self._file.close()
            self._source.close()
            failure = getattr(self._source, "failure", None)
            if failure is not None:
                raise failure from error
            raise
        self._spans: dict[int, SpanReader] = {}

    def __reduce__(self) -> tuple[type["Store"], tuple[Location]]:
        return Store, (self.path,)

    def close(self) -> None:
        """Give the files back; columns that were read stay usable."""
        self._file.close()
        self._source.close()
        for spans in self._spans.values():
            spans.close()
        self._spans.clear()

    @property
    def schema_version(self) -> str:
        """The version of the schema that the file was written in."""
        self.index.check_open()
        with reading_hdf5(self.path):
            return str(self._file.attrs[schema.VERSION_ATTRIBUTE])

    def check_known(self) -> None:
        """See that the file holds nothing that a newer schema added, which a copy would lose.

        Raises:
            SchemaVersionError: it may.
        """
        with reading_hdf5(self.path):
            is_newer = is_of_newer_minor(self._file, self.path)
        if is_newer:
            raise SchemaVersionError(
                f"{self.path} has schema version {self.schema_version}, newer than "
                f"{schema.SCHEMA_VERSION} of this dtb_builder, which can read it but would lose "
                "something in copying it"
            )

    @property
    def provenance(self) -> dict[str, Any]:
        """How the file was made."""
        return self._object(self.provenance_text)

    @property
    def provenance_text(self) -> str:
        """The provenance, as it stands in the file."""
        texts = self.index.texts(schema.PROVENANCE)
        if len(texts) != 1:
            raise DamagedFileError(f"{self.path}: expected one provenance, got {len(texts)}")
        return texts[0]

    @property
    def environments(self) -> tuple[dict[str, Any], ...]:
        """The devices and software that epochs ran on."""
        return tuple(map(self._object, self.index.texts(schema.ENVIRONMENTS)))

    def check_environments(self) -> None:
        """See that the environment of every epoch can be read.

        Raises:
            DamagedFileError: it cannot.
        """
        number = self.index.column("runs/environment")
        if ((number < 0) | (number >= len(self.environments))).any():
            raise DamagedFileError(f"{self.path}: epochs have environments that are not there")

    def _object(self, text: str) -> dict[str, Any]:
        with damage_is_named(self.path):
            value = json.loads(text)
        if not isinstance(value, dict):
            raise DamagedFileError(f"{self.path}: expected a JSON object, got {text:.40}")
        return value

    @property
    def failures(self) -> tuple[FailedRun, ...]:
        """The runs of the plan that were given up, with their last error."""
        names = ("number", "genotype", "seed", "attempts")
        columns = [self.index.column(f"failures/{name}") for name in names]
        messages = self.index.texts(schema.FAILURE_MESSAGES)
        with damage_is_named(self.path):
            return tuple(
                FailedRun(
                    int(number), Genotype.from_array(genotype), int(seed), int(attempts), message
                )
                for number, genotype, seed, attempts, message in zip(
                    *columns, messages, strict=True
                )
            )

    def epoch_row(self, epoch: int) -> int:
        """The row of an epoch, -1 being the last.

        Raises:
            KeyError: there is no such epoch.
            TypeError: it is not a whole number.
        """
        epoch = whole_number("epoch", epoch)
        num_epochs = self.index.num_epochs
        if epoch == -1:
            return num_epochs
        if not 0 <= epoch <= num_epochs:
            raise NotFoundError(f"no epoch {epoch}: epochs are 0 to {num_epochs}, -1 is the last")
        return epoch

    def metric(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """A metric of all runs and epochs, and 0 where it was not measured, (runs, num_epochs + 1).

        Raises:
            KeyError: there is no such metric.
        """
        values, measured = _metric_columns(name)
        return self.index.column(values), self.index.column(measured)

    def metric_at(self, name: str, epoch: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """A metric of all runs at an epoch, and 0 where it was not measured, shape (runs,).

        Raises:
            KeyError: there is no such metric or epoch.
        """
        values, measured = _metric_columns(name)
        epoch_row = self.epoch_row(epoch)
        return self.index.at_epoch(values, epoch_row), self.index.at_epoch(measured, epoch_row)

    def curve(self, name: str, row: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """A metric of a row at every epoch, and 0 where it was not measured, (num_epochs + 1,).

        Raises:
            KeyError: there is no such metric.
        """
        values, measured = _metric_columns(name)
        return self.index.cell(values, row), self.index.cell(measured, row)

    def steps(self, row: int) -> tuple[int, ...]:
        """The steps of a row's first epoch after which there are states, increasing.

        Raises:
            DamagedFileError: they are not.
        """
        steps = self.index.cell("step_index/step", row).tolist()
        if any(step <= before for before, step in pairwise((0, *steps))):
            raise DamagedFileError(f"{self.path}: steps should be >= 1 and increase, got {steps}")
        return tuple(steps)

    def kept(self, row: int) -> tuple[int, ...]:
        """The epochs of a row whose states are there, whole or as differences, increasing."""
        whole = np.flatnonzero(self.index.cell("state_index/kept", row)).tolist()
        return tuple(sorted((*whole, *self.differences(row))))

    def differences(self, row: int) -> dict[int, int]:
        """The epochs of a row's states that are differences, in order, each with its key's epoch.

        Raises:
            DamagedFileError: they do not lead to states that are there whole.
        """
        if not self.index.num_differences:
            return {}
        epochs = self.index.cell("difference_index/epoch", row)
        keys = self.index.cell("difference_index/key", row)
        kept = self.index.cell("state_index/kept", row) != 0
        check_differences(epochs, keys, kept, where=self.path)
        return dict(zip(epochs.tolist(), keys.tolist(), strict=True))

    def tensors(self, row: int) -> TensorTable:
        """Where each named tensor lies in the states of a row.

        Raises:
            MissingVolumeError: the file with the row's states is not there.
        """
        num_floats = self._cell("num_floats", row)
        data = self.table_bytes(row)
        with damage_is_named(self.path):
            table = table_from_bytes(data)
            if table.num_floats != num_floats:
                raise DamagedFileError(
                    f"a tensor table of {table.num_floats} floats for states of {num_floats}"
                )
        return table

    def state(self, row: int, epoch_row: int) -> TrainingState:
        """A kept state, read at once if it is whole; else its difference and that one's key.

        Raises:
            MissingVolumeError: the file with the row's states is not there.
        """
        differences = self.differences(row)
        if epoch_row not in differences:
            return self._decoded("state_index", row, epoch_row)
        key = self._decoded("state_index", row, differences[epoch_row]).values
        place = "difference_index", row, list(differences).index(epoch_row)
        with damage_is_named(self.path):
            values = codec.decode_difference(self.frame(*place), key)
            return TrainingState(values, self._entry(*place, "num_batches_tracked"))

    def step_state(self, row: int, position: int) -> TrainingState:
        """The state after the step at this position of `steps`; raises as `state`."""
        return self._decoded("step_index", row, position)

    def _decoded(self, group: str, row: int, entry: int) -> TrainingState:
        num_batches_tracked = self._entry(group, row, entry, "num_batches_tracked")
        frame = self.frame(group, row, entry)
        num_floats = self._cell("num_floats", row)
        with damage_is_named(self.path):
            if not 1 <= num_floats <= schema.MAX_FLOATS:
                raise DamagedFileError(
                    f"expected a state of 1 to {schema.MAX_FLOATS} floats, got {num_floats}"
                )
            return TrainingState(codec.decode(frame, num_floats=num_floats), num_batches_tracked)

    def table_bytes(self, row: int) -> bytes:
        """The rows of a run's tensor table, as they stand in the file."""
        num_bytes = self._cell("num_tensors", row) * schema.TENSOR_DTYPE.itemsize
        offset, checksum = self._cell("tensors_offset", row), self._cell("tensors_crc32c", row)
        return self._volume(row).read(offset, num_bytes, checksum)

    def frame(self, group: str, row: int, entry: int) -> bytes:
        """A frame, as it stands in the file.

        Args:
            group: state_index, step_index or difference_index.
            row: of the index.
            entry: of the row of the group's columns: an epoch, or a position of `steps` or of
                `differences`.
        """
        place = (self._entry(group, row, entry, name) for name in _PLACE)
        return self._volume(row).read(*place)

    def check_lists(self) -> None:
        """See that HDF5 can list what is in the file and in its volumes.

        Raises:
            MissingVolumeError: a volume is not there.
        """
        for name in {"", *self.index.texts(schema.VOLUMES)}:
            with self._hdf5(name) as file:
                file.visit(lambda _: None)

    def check_hdf5(self, row: int, number: int) -> None:
        """See that HDF5 itself finds the states of a row, of this number, where the index does.

        Raises:
            MissingVolumeError: the file with the row's states is not there.
        """
        self._volume(row)
        name = self.index.texts(schema.VOLUMES)[self._cell("volume", row)]
        kept = self.index.column("state_index/kept")[row] != 0
        every = slice(None)
        places = (
            FramePlaces(*(self.index.column(f"{group}/{n}")[row, which] for n in _PLACE))
            for group, which in (
                ("state_index", kept),
                ("step_index", every),
                ("difference_index", every),
            )
        )
        tensors = self._cell("tensors_offset", row), self._cell("tensors_crc32c", row)
        with self._hdf5(name) as file:
            check_states(
                file,
                number,
                StatePlaces(*tensors, *places),
                num_tensors=self._cell("num_tensors", row),
                num_floats=self._cell("num_floats", row),
            )

    def salvaged_table(self, row: int, number: int, *, num_tensors: int, checksum: int) -> bytes:
        """A tensor table of this checksum, found by the index or else by HDF5 itself.

        Raises:
            DamagedFileError: neither place holds it.
        """
        num_bytes = num_tensors * schema.TENSOR_DTYPE.itemsize
        column = "state_index/tensors_offset"
        places = self._places(row, number, column, row, schema.TENSORS, None)
        return self._first_sound(places, num_bytes, checksum, f"tensor table of run {number}")

    def salvaged_frame(
        self,
        row: int,
        number: int,
        group: str,
        entry: int,
        position: int,
        *,
        length: int,
        checksum: int,
        what: str,
    ) -> bytes:
        """A frame of this checksum, found by the index or else by HDF5 itself.

        Args:
            row: of the index.
            number: of the run.
            group: state_index, step_index or difference_index.
            entry: of the row of the group's columns.
            position: among the states of the group's dataset.
            length: of the frame.
            checksum: of the frame.
            what: the state, as an error names it.

        Raises:
            DamagedFileError: neither place holds it.
        """
        places = self._places(
            row, number, f"{group}/offset", (row, entry), _DATASETS[group], position
        )
        return self._first_sound(places, length, checksum, what)

    def _first_sound(
        self, places: Iterator[tuple[SpanReader, int]], length: int, checksum: int, what: str
    ) -> bytes:
        for volume, offset in places:
            with contextlib.suppress(DamagedFileError):
                return volume.read(offset, length, checksum)
        raise DamagedFileError(f"the {what} is damaged")

    def _places(
        self,
        row: int,
        number: int,
        column: str,
        where: int | tuple[int, int],
        name: str,
        position: int | None,
    ) -> Iterator[tuple[SpanReader, int]]:
        """Where something of a run may lie: as the index says, then as HDF5 says."""
        with contextlib.suppress(DTBError):
            yield self._volume(row), int(self.index.column(column)[where])
        with contextlib.suppress(DTBError):
            names = self.index.texts(schema.VOLUMES)
            for volume, file_name in enumerate(names):
                with self._hdf5(file_name) as file:
                    if schema.run_group(number) not in file:
                        continue
                    dataset = dataset_at(file, f"{schema.run_group(number)}/{name}")
                    if position is None:
                        offset = dataset.id.get_offset()
                    else:
                        offset = dataset.id.get_chunk_info_by_coord((position, 0)).byte_offset
                if offset is not None:
                    yield self._opened(volume), int(offset)

    def _cell(self, name: str, row: int) -> int:
        return int(self.index.cell(f"state_index/{name}", row))

    def _entry(self, group: str, row: int, entry: int, name: str) -> int:
        return int(self.index.cell(f"{group}/{name}", row)[entry])

    def _volume(self, row: int) -> SpanReader:
        """The file that holds the states of a row."""
        return self._opened(self._cell("volume", row))

    def _opened(self, number: int) -> SpanReader:
        """A volume by its number."""
        if number not in self._spans:
            self.index.check_open()
            names = self.index.texts(schema.VOLUMES)
            if not 0 <= number < len(names):
                raise DamagedFileError(f"{self.path}: no volume {number} of {len(names)}")
            if names[number] == "":
                self._spans[number] = SpanReader(self._source)
            else:
                file, source = self._volume_file(names[number])
                file.close()
                self._spans[number] = SpanReader(source)
        return self._spans[number]

    def _volume_file(self, name: str) -> tuple[h5py.File, Source]:
        """The file that a volume's name stands for, opened once more; both want closing."""
        if name == "":
            return opened(self.path)
        check_plain(name, self.path)
        location = sibling(self.path, name)
        try:
            file, source = opened(location)
        except FileNotFoundError:
            message = f"{location} is not there; it holds states of {self.path}"
            raise MissingVolumeError(message) from None
        try:
            found = integer_attribute(file, location, schema.PROVENANCE_ATTRIBUTE)
            if found != integer_attribute(self._file, self.path, schema.PROVENANCE_ATTRIBUTE):
                raise DamagedFileError(f"{location} belongs to another benchmark than {self.path}")
        except BaseException:
            file.close()
            source.close()
            raise
        return file, source

    @contextlib.contextmanager
    def _hdf5(self, name: str) -> Iterator[h5py.File]:
        """The file that a volume's name stands for, as HDF5 sees it."""
        file, source = self._volume_file(name)
        source.close()
        with file, reading_hdf5(source.location):
            yield file


def check_plain(name: str, path: Location) -> None:
    """See that a volume's name leads to no other folder.

    Raises:
        DamagedFileError: it may.
    """
    if Path(name).name != name or name == "..":
        raise DamagedFileError(f"{path}: volume {name!r} is not a plain file name")


def _metric_columns(name: str) -> tuple[str, str]:
    if name not in METRICS:
        raise NotFoundError(f"no metric {name!r}: metrics are {', '.join(METRICS)}")
    return f"metrics/{name}", f"measured/{name}"
