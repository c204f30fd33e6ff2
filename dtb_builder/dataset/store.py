"""One open file, with its columns and states; benchmarks and runs read through it."""

import hashlib
import os
from typing import Any

from dtb_builder.dataset import schema
from dtb_builder.dataset.failures import FAILURES, FailedRun, failures_from
from dtb_builder.dataset.index import IndexReader
from dtb_builder.dataset.json_object import check_shape, json_object
from dtb_builder.dataset.opening import (
    damage_is_named,
    is_newer,
    opened,
    reading_hdf5,
)
from dtb_builder.dataset.remote import RemoteSource
from dtb_builder.dataset.source import Location, located
from dtb_builder.dataset.states import States
from dtb_builder.errors import DamagedFileError, NotFoundError, SchemaVersionError
from dtb_builder.meant import did_you_mean
from dtb_builder.record import METRICS, whole_number
from dtb_builder.remembered import remembered

__all__ = ["FailedRun", "Store", "metric_columns"]

_BLOCK_RUNS = 2**10


class Store:
    """An open benchmark or shard, addressed by row.

    Attributes:
        path: the file, or its URL.
        index: its columns.
        states: its states.

    Raises:
        FileNotFoundError: there is no such file.
        NotDTBFileError: the file is not a DTB file.
        SchemaVersionError: the file needs another version of this package.
        DamagedFileError: here or in any method: the bytes are not those that were written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = located(path)
        self._file, self._source = opened(self.path)
        try:
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
        self.states = States(self.index, self._file, self._source)

    def __reduce__(self) -> tuple[type["Store"], tuple[Location]]:
        return Store, (self.path,)

    def close(self) -> None:
        """Close the files; columns that were read stay usable."""
        self._file.close()
        self._source.close()
        self.states.close()

    @property
    def schema_version(self) -> str:
        """The schema version of the file."""
        self.index.check_open()
        with reading_hdf5(self.path, self._file):
            return str(self._file.attrs[schema.VERSION_ATTRIBUTE])

    @property
    def provenance_crc32c(self) -> object:
        """The provenance's checksum, as stored in an attribute of the file's root."""
        with reading_hdf5(self.path, self._file):
            return self._file.attrs[schema.PROVENANCE_ATTRIBUTE]

    def check_known(self) -> None:
        """Check that the file's schema is not newer: a copy would lose what the newer one added.

        Raises:
            SchemaVersionError: it is newer.
        """
        with reading_hdf5(self.path, self._file):
            may_lose = is_newer(self._file, self.path)
        if may_lose:
            raise SchemaVersionError(
                f"{self.path} has schema version {self.schema_version}, newer than "
                f"{schema.SCHEMA_VERSION} of this dtb_builder: a copy would lose what the newer "
                "version added"
            )

    @property
    def provenance(self) -> dict[str, Any]:
        """How the file was made."""
        provenance = self._object(self.provenance_text)
        check_shape(provenance, schema.PROVENANCE_SHAPE, f"{self.path}: the provenance")
        return provenance

    @property
    def provenance_text(self) -> str:
        """The provenance as the file's JSON text."""
        texts = self.index.texts(schema.PROVENANCE)
        if len(texts) != 1:
            raise DamagedFileError(f"{self.path}: expected one provenance, got {len(texts)}")
        return texts[0]

    @remembered
    def provenance_sha256(self) -> str:
        """SHA-256 of the provenance text; branches and copies use it to name the file."""
        return hashlib.sha256(self.provenance_text.encode()).hexdigest()

    @property
    def keeps_exact_states(self) -> bool:
        """Whether states are stored as trained: not rounded, and with the auxiliary head if any."""
        provenance = self.provenance
        states = provenance.get("config", {}).get("states", {})
        has_head = provenance.get("network", {}).get("auxiliary", True)
        is_whole = states.get("auxiliary_head") is True or not has_head
        return states.get("dtype") == "float32" and is_whole

    @remembered
    def environments(self) -> tuple[dict[str, Any], ...]:
        """The devices and software that epochs ran on."""
        found = tuple(map(self._object, self.index.texts(schema.ENVIRONMENTS)))
        for environment in found:
            check_shape(environment, schema.ENVIRONMENT_SHAPE, f"{self.path}: an environment")
        return found

    @remembered
    def origins(self) -> tuple[dict[str, Any], ...]:
        """Where runs come from."""
        return tuple(map(self._object, self.index.texts(schema.ORIGINS)))

    def check_listed(self) -> None:
        """Check that the environment of every epoch and the origin of every run can be read.

        Raises:
            DamagedFileError: one of them cannot.
        """
        for name, listed in (("environment", self.environments), ("origin", self.origins)):
            for rows in self.index.streamed([f"runs/{name}"], _BLOCK_RUNS):
                positions = rows[f"runs/{name}"]
                if ((positions < 0) | (positions >= len(listed))).any():
                    raise DamagedFileError(f"{self.path}: runs refer to {name}s that are missing")

    def _object(self, text: str) -> dict[str, Any]:
        return json_object(text, self.path)

    @remembered
    def failures(self) -> tuple[FailedRun, ...]:
        """The runs of the plan that failed for good, with their last error."""
        columns = {name: self.index.column(name) for name in FAILURES}
        messages = self.index.texts(schema.FAILURE_MESSAGES)
        with damage_is_named(self.path, self._file):
            return failures_from(columns, messages)

    def epoch_row(self, epoch: int) -> int:
        """The row of an epoch; -1 is the last epoch.

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


def metric_columns(name: str) -> tuple[str, str]:
    """The columns of a metric: its values, and where they were measured.

    Raises:
        KeyError: there is no such metric.
    """
    if name not in METRICS:
        hint = did_you_mean(name, METRICS) or f": metrics are {', '.join(METRICS)}"
        raise NotFoundError(f"no metric {name!r}{hint}")
    return f"metrics/{name}", f"measured/{name}"
