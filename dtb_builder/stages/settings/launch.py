"""What may change from one launch of a planned run folder to the next, as checked settings."""

from dataclasses import dataclass
from typing import Literal

from dtb_builder.stages.settings.cluster import ClusterConfig

__all__ = ["LAUNCH_KEYS", "CostConfig", "LaunchConfig"]


@dataclass(frozen=True, kw_only=True)
class CostConfig:
    """What a plan is priced with.

    Attributes:
        per_gpu_hour: the price of an hour of one GPU, in any currency; None for no price.
    """

    per_gpu_hour: float | None = None

    def __post_init__(self) -> None:
        if self.per_gpu_hour is not None and self.per_gpu_hour < 0:
            raise ValueError(f"cost.per_gpu_hour must not be negative, got {self.per_gpu_hour}")


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """What may change from one launch to the next.

    Attributes:
        cluster: where the runs are placed.
        retry: "failed" tries again the runs that were given up.
        allow_missing: merge although shards are missing or runs failed.
        volume_size: bytes per states file of the merged benchmark, None for one single file.
        cost: what a plan is priced with.
    """

    cluster: ClusterConfig
    retry: Literal["failed"] | None
    allow_missing: bool
    volume_size: int | None
    cost: CostConfig = CostConfig()

    def __post_init__(self) -> None:
        if self.volume_size is not None and self.volume_size < 1:
            raise ValueError(f"volume_size must be at least 1 byte, got {self.volume_size}")


LAUNCH_KEYS = ("cluster", "retry", "allow_missing", "volume_size", "cost")
"""The top-level keys of a composed configuration that make up a `LaunchConfig`."""
