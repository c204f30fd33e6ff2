"""The errors that a person who uses DTB may want to catch."""

__all__ = [
    "ClosedError",
    "ConfigError",
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
    """A genotype lies outside the DARTS space, or its text cannot be read."""


class ConfigError(DTBError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class PlanMismatchError(DTBError):
    """The run folder was planned with another config."""


class ImagesError(DTBError):
    """Image files are missing, truncated or not what their name promises."""


class LockedError(DTBError):
    """Another process works on the same run folder."""


class NotStartedError(DTBError):
    """Ray did not come up in time, or was not waited for: the same command may be given again."""


class StorageError(DTBError, OSError):
    """The disk is full, read-only or gone; what is finished is safe."""


class DivergedError(DTBError, ArithmeticError):
    """A training's loss is not a number any more."""


class SingularKernelError(DTBError, ArithmeticError):
    """A network does not tell all probe images apart, so that its score is no number."""


class UnseenReLUError(DTBError, ValueError):
    """A network has ReLUs that are not modules, which hooks cannot see."""


class TableError(DTBError, ValueError):
    """A file of trained networks that others published is damaged or of another format."""


class TimeLimitError(DTBError):
    """A try at a run took longer than it may."""


class MissingPackageError(DTBError, ModuleNotFoundError):
    """A package is needed that is not installed; the message says how to install it."""


class UnfinishedError(DTBError):
    """Something was asked for that work still to be done must make first."""


class MissingShardError(UnfinishedError):
    """Shards of the plan are not there."""


class MissingVolumeError(DTBError, FileNotFoundError):
    """A file that holds states of the benchmark is not beside its index."""


class DuplicateRunError(DTBError):
    """One run stands in two shards."""


class ClosedError(DTBError, ValueError):
    """A benchmark was closed before something of it was read."""


class NotDTBFileError(DTBError, ValueError):
    """A file is not a DTB file."""


class NotFoundError(DTBError, KeyError):
    """There is no such run, epoch, metric or column."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # a KeyError's own text is the repr of its argument


class NoSuchRunError(NotFoundError):
    """A benchmark has no such run, or several where one was asked for."""


class NotMeasuredError(NotFoundError):
    """A metric was not measured at this epoch."""


class StateNotKeptError(NotFoundError):
    """A run's state after this epoch or step was not stored."""


class RemoteError(DTBError, OSError):
    """A server cannot be reached, or does not give what was asked of it."""


class SchemaVersionError(DTBError):
    """A DTB file was written in a schema that this version cannot read."""


class DamagedFileError(DTBError):
    """A DTB file's bytes are not those that were written."""
