"""The settings of the device and of the threads that a run is computed on."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["ComputeConfig"]


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """What a run is computed on. These settings decide the bits of its results.

    Attributes:
        device: "cpu" or "cuda".
        threads: CPU threads of torch, per run.
        deterministic: whether only deterministic operations are used.
        kernels: whether compiled passes train the cells; the plan replaces "auto" by "on" or "off".
    """

    device: Literal["cpu", "cuda"]
    threads: int
    deterministic: bool
    kernels: Literal["auto", "on", "off"] = "off"  # older files have no such setting

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"compute.threads must be at least 1, got {self.threads}")
