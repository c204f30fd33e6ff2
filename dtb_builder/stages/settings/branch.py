"""Where the runs of a branch go on from, as checked settings."""

from dataclasses import dataclass

__all__ = ["BranchConfig"]


@dataclass(frozen=True, kw_only=True)
class BranchConfig:
    """Where the runs of a branch go on from; ``dtb branch`` writes it.

    Attributes:
        epoch: of the parent, at whose end they go on.
        provenance_sha256: of the parent's provenance text.
        runs_sha256: of the parent's runs: a line of JSON for each, its origin in the branch.
    """

    epoch: int
    provenance_sha256: str
    runs_sha256: str
