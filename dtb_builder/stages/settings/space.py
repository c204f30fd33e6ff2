"""Which genotypes are trained, as checked settings."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["SpaceConfig"]


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """Which genotypes are trained.

    Attributes:
        kind: uniform draws, a file, published names, a parent and mutations of it, or, in a
            branch, the genotypes of its parent runs.
        seed: the seed of the draws.
        num_genotypes: for uniform and mutations: how many, including the parent.
        file: for file: a text file with one genotype per line.
        parent: for mutations: the name or text of a genotype.
        names: for named: which names; empty means all.
    """

    kind: Literal["uniform", "file", "named", "mutations", "branch"]
    seed: int
    num_genotypes: int | None
    file: str | None
    parent: str | None
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"space.seed must be at least 0, got {self.seed}")
        drawn = self.kind in ("uniform", "mutations")
        if drawn and (self.num_genotypes is None or self.num_genotypes < 1):
            raise ValueError(f"space.num_genotypes must be at least 1, got {self.num_genotypes}")
        if not drawn and self.num_genotypes is not None:
            raise ValueError(f"space.num_genotypes has no effect with space.kind={self.kind}")
        for name, value, kind in (
            ("file", self.file, "file"),
            ("parent", self.parent, "mutations"),
        ):
            if self.kind == kind and value is None:
                raise ValueError(f"space.kind={kind} needs space.{name}")
            if self.kind != kind and value is not None:
                raise ValueError(f"space.{name} has no effect with space.kind={self.kind}")
        if self.kind != "named" and self.names:
            raise ValueError(f"space.names has no effect with space.kind={self.kind}")
