"""What a person can set of a scoring: what decides the scores, apart from how they are made."""

from dataclasses import dataclass
from typing import Literal

from dtb_builder.scores.names import SCORES
from dtb_builder.scores.reference import MIN_GENOTYPES
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.training.compute import ComputeConfig

__all__ = ["SCORE_LAUNCH_KEYS", "ScoreConfig", "ScoreLaunch"]

SCORE_LAUNCH_KEYS = ("cluster", "retry", "images_root")
"""The top-level keys of a composed configuration that make up a `ScoreLaunch`."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """What decides the scores of a benchmark.

    Attributes:
        scores: which, of `dtb_builder.scores.names.SCORES`.
        num_images: probe images: n; or several such numbers, of which the smaller probes are the
            first images of the largest and each has rows of its own.
        probe_seed: draws them from the training split.
        num_reference: random genotypes that freeze the scale of DAS where no shipped reference
            fits; None for no DAS then.
        compute: what scores are computed on, as far as it decides their last bits.
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
            raise ValueError(f"scores must be of {', '.join(SCORES)}, got {', '.join(unknown)}")
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
        """Whether both atoms of DAS are among the scores."""
        return {"distinguishing_ability", "activation_units"} <= set(self.scores)


@dataclass(frozen=True, kw_only=True)
class ScoreLaunch:
    """What may change from one launch to the next.

    Attributes:
        cluster: where the work is placed.
        retry: "failed" scores again the states of which a score failed.
        images_root: where the benchmark's images are, None for their usual place.
    """

    cluster: ClusterConfig
    retry: Literal["failed"] | None
    images_root: str | None

    def __post_init__(self) -> None:
        for name in ("time_limit", "shards"):
            if getattr(self.cluster, name) is not None:
                raise ValueError(f"cluster.{name} means nothing for scores: leave it null")
        if self.cluster.runs_per_task != 1 or self.cluster.tensorboard:
            raise ValueError(
                "cluster.runs_per_task and tensorboard mean nothing for scores: leave them out"
            )
