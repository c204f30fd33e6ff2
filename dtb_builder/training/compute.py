"""What a run is computed on, as checked settings."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["ComputeConfig"]


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """What a run is computed on, as far as it decides the bits.

    Attributes:
        device: "cpu" or "cuda".
        threads: of torch, per run.
        deterministic: whether only deterministic operations are used.
        kernels: whether the cells run in compiled passes; "auto" is settled where it is planned.
    """

    device: Literal["cpu", "cuda"]
    threads: int
    deterministic: bool
    kernels: Literal["auto", "on", "off"] = "off"  # files made before it was a setting had none

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"compute.threads must be at least 1, got {self.threads}")
