"""The epoch and the runs from which a branch continues, as settings."""

from dataclasses import dataclass

__all__ = ["BranchConfig"]


@dataclass(frozen=True, kw_only=True)
class BranchConfig:
    """The epoch and the parent runs from which a branch continues; written by ``dtb branch``.

    Attributes:
        epoch: the parents' epoch after which the runs continue.
        provenance_sha256: the hash of the parent's provenance text.
        runs_sha256: the hash of the parent runs, with a line of JSON for each, which is the run's
            origin in the branch.
    """

    epoch: int
    provenance_sha256: str
    runs_sha256: str
