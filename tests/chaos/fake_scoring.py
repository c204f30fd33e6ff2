"""A scoring whose scores cost nothing, as a program to be crashed."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn

from dtb_builder.scores.scoring import Scored
from dtb_builder.stages.scoring import worker as score_worker
from dtb_builder.stages.scoring.config import ScoreConfig, ScoreLaunch
from dtb_builder.stages.scoring.driver import score
from dtb_builder.stages.scoring.sources import BenchmarkSource
from dtb_builder.stages.scoring.table import read_scores
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.training.compute import ComputeConfig

__all__ = ["main", "told"]

CONFIG = ScoreConfig(
    scores=("wot",),
    num_images=8,
    probe_seed=0,
    num_reference=None,
    compute=ComputeConfig(device="cpu", threads=1, deterministic=True),
)
LAUNCH = ScoreLaunch(
    cluster=ClusterConfig(
        engine="serial",
        address=None,
        num_cpus=None,
        gpus_per_run=None,
        max_in_flight=None,
        runs_per_task=1,
        shards=None,
        max_attempts=1,
        time_limit=None,
    ),
    retry=None,
    images_root=None,
)


def fake_scores(network: nn.Module, _: Any, names: Collection[str], **__: Any) -> Scored:
    """A number that tells the state from any other."""
    total = sum(float(tensor.double().sum()) for tensor in network.state_dict().values())
    return Scored({"wot": total}, {"wot": 1.0}) if names else Scored()


def main(root: Path) -> None:
    """Score ``dtb.h5`` of a folder, as `dtb score` would."""
    score_worker.score_network = fake_scores
    source = BenchmarkSource(root / "dtb.h5")
    for _ in score(source, root / "scores.parquet", CONFIG, LAUNCH, images_sha256=None):
        pass


def told(root: Path) -> list[dict[str, Any]]:
    """What the file of scores says, apart from seconds."""
    rows = read_scores(root / "scores.parquet").rows
    return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
