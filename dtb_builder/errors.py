"""The errors that a person who uses DTB may want to catch."""

__all__ = [
    "ClosedError",
    "ConfigError",
    "ContradictionError",
    "DTBError",
    "DamagedFileError",
    "DivergedError",
    "DuplicateRunError",
    "GenotypeError",
    "ImagesError",
    "LockedError",
    "MissingPackageError",
    "MissingShardError",
    "MissingVolumeError",
    "NoSuchRunError",
    "NotDTBFileError",
    "NotFoundError",
    "NotMeasuredError",
    "NotStartedError",
    "PlanMismatchError",
    "RemoteError",
    "SchemaVersionError",
    "ScoreError",
    "SingularKernelError",
    "StateNotKeptError",
    "StorageError",
    "TableError",
    "TimeLimitError",
    "UnfinishedError",
    "UnseenReLUError",
]


class DTBError(Exception):
    """Any error that DTB raises on purpose about its input, its files or its machine."""


class GenotypeError(DTBError, ValueError):
    """A genotype is outside the DARTS space, or its text cannot be read."""


class ConfigError(DTBError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class PlanMismatchError(DTBError):
    """The run folder was planned with another config."""


class ImagesError(DTBError):
    """Image files are missing, truncated or of another image set."""


class LockedError(DTBError):
    """Another process works on the same run folder."""


class NotStartedError(DTBError):
    """Ray did not start in time; the same command may be tried again."""


class StorageError(DTBError, OSError):
    """The disk is full, read-only or gone; finished runs are safe."""


class DivergedError(DTBError, ArithmeticError):
    """A loss, a gradient or a score is not finite."""


class SingularKernelError(DTBError, ArithmeticError):
    """A network does not tell all probe images apart, so its score is not defined."""


class ScoreError(DTBError, ValueError):
    """A person's own score raises, is no finite number, or changes what it must not."""


class UnseenReLUError(DTBError, ValueError):
    """A network has ReLUs that are not modules, so hooks cannot see them."""


class TableError(DTBError, ValueError):
    """A published table of trained networks is damaged or has another format."""


class TimeLimitError(DTBError):
    """An attempt at a run exceeded its time limit."""


class MissingPackageError(DTBError, ModuleNotFoundError):
    """A package is needed that is not installed; the message says how to install it."""


class UnfinishedError(DTBError):
    """A command needs results that do not exist yet."""


class MissingShardError(UnfinishedError):
    """Shards of the plan are missing."""


class MissingVolumeError(DTBError, FileNotFoundError):
    """A file with states of the benchmark is not in the folder of its index."""


class DuplicateRunError(DTBError):
    """A run is in two shards."""


class ClosedError(DTBError, ValueError):
    """A benchmark was closed before something of it was read."""


class ContradictionError(DTBError):
    """One run has different bits in two places, as two kinds of processor make them."""


class NotDTBFileError(DTBError, ValueError):
    """A file is not a DTB file."""


class NotFoundError(DTBError, KeyError):
    """There is no such run, epoch, metric or column."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError would return the repr of its argument


class NoSuchRunError(NotFoundError):
    """A benchmark has no such run, or several where one was asked for."""


class NotMeasuredError(NotFoundError):
    """A metric was not measured at this epoch."""


class StateNotKeptError(NotFoundError):
    """A run's state after this epoch or step was not stored."""


class RemoteError(DTBError, OSError):
    """A server cannot be reached, or its answer is not the requested one."""


class SchemaVersionError(DTBError):
    """A DTB file has a schema version that this version of DTB cannot read."""


class DamagedFileError(DTBError):
    """The bytes of a DTB file have changed since they were written."""
