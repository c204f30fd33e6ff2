"""The settings that may change from one launch of a planned run folder to the next."""

from dataclasses import dataclass
from typing import Literal

from dtb_builder.stages.settings.cluster import ClusterConfig

__all__ = ["LAUNCH_KEYS", "CostConfig", "LaunchConfig"]


@dataclass(frozen=True, kw_only=True)
class CostConfig:
    """Prices, to estimate the cost of a plan.

    Attributes:
        per_gpu_hour: the price of an hour of one GPU, in any currency; None for no price.
    """

    per_gpu_hour: float | None = None

    def __post_init__(self) -> None:
        if self.per_gpu_hour is not None and self.per_gpu_hour < 0:
            raise ValueError(f"cost.per_gpu_hour must not be negative, got {self.per_gpu_hour}")


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """The settings that may change from one launch to the next.

    Attributes:
        cluster: where the runs are trained.
        retry: "failed" tries runs again that were given up.
        allow_missing: merge even if shards are missing or runs failed.
        volume_size: the bytes of each states file of the merged benchmark; None for a single file
            with states and index.
        cost: prices, to estimate the cost of a plan.
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
