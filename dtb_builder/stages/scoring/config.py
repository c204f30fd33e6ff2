"""The settings of a scoring: those that decide the scores, and those of the launch."""

from dataclasses import dataclass
from typing import Literal

from dtb_builder.meant import did_you_mean
from dtb_builder.scores.names import SCORES
from dtb_builder.scores.reference import MIN_GENOTYPES
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.training.compute import ComputeConfig

__all__ = ["SCORE_LAUNCH_KEYS", "ScoreConfig", "ScoreLaunch"]

SCORE_LAUNCH_KEYS = ("cluster", "retry", "images_root")
"""The top-level keys of a composed configuration that make up a `ScoreLaunch`."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """The settings that decide the scores of a benchmark.

    Attributes:
        scores: which scores, of `dtb_builder.scores.names.SCORES`.
        num_images: the number n of probe images, or several such numbers. Each number has rows of
            its own; a smaller probe has the first images of the largest one.
        probe_seed: draws the probe from the training split.
        num_reference: the number of random genotypes in a reference sample for DAS, if no shipped
            sample fits; None for no DAS in that case.
        compute: the device and the threads, which decide the last bits of scores.
    """

    scores: tuple[str, ...]
    num_images: int | tuple[int, ...]
    probe_seed: int
    num_reference: int | None
    compute: ComputeConfig

    def __post_init__(self) -> None:
        if not self.scores or len(set(self.scores)) < len(self.scores):
            raise ValueError(f"scores must be different ones, at least 1, got {list(self.scores)}")
        if unknown := sorted(set(self.scores) - SCORES.keys()):
            hint = did_you_mean(unknown[0], SCORES) or f": there are {', '.join(SCORES)}"
            raise ValueError(f"scores: there is no score {unknown[0]}{hint}")
        if not self.sizes or self.sizes[0] < 2 or len(set(self.sizes)) < len(self.sizes):
            raise ValueError(
                f"num_images must be at least 2, or different such numbers, got {self.num_images}"
            )
        if self.probe_seed < 0:
            raise ValueError(f"probe_seed must be at least 0, got {self.probe_seed}")
        if self.num_reference is not None and self.num_reference < MIN_GENOTYPES:
            raise ValueError(
                f"num_reference must be at least {MIN_GENOTYPES} or null, got {self.num_reference}"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """All numbers of probe images, ascending."""
        return (
            (self.num_images,)
            if isinstance(self.num_images, int)
            else tuple(sorted(self.num_images))
        )

    @property
    def wants_das(self) -> bool:
        """Whether the scores include both atoms of DAS."""
        return {"distinguishing_ability", "activation_units"} <= set(self.scores)


@dataclass(frozen=True, kw_only=True)
class ScoreLaunch:
    """The settings that may change from one launch to the next.

    Attributes:
        cluster: where the work is done.
        retry: "failed" scores states again for which a score failed.
        images_root: the path of the benchmark's images; None for the default.
    """

    cluster: ClusterConfig
    retry: Literal["failed"] | None
    images_root: str | None

    def __post_init__(self) -> None:
        for name in ("time_limit", "shards"):
            if getattr(self.cluster, name) is not None:
                raise ValueError(f"cluster.{name} has no effect on scores: set it to null")
        if self.cluster.runs_per_task != 1 or self.cluster.tensorboard:
            raise ValueError(
                "cluster.runs_per_task and tensorboard have no effect on scores: leave them out"
            )
