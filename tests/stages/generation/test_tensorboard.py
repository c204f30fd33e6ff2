from collections.abc import Callable
from pathlib import Path

import pytest

from dtb_builder.stages.generation.run_folder import RunFolder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what tensorboard itself uses
def test_tensorboard_reads_the_curves_of_finished_runs_where_they_were_asked_for(
    tmp_path: Path, generate: Callable[..., int]
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert generate(tmp_path, "cluster.tensorboard=true") == 0
    for run in RunFolder(tmp_path).plan():
        read = EventAccumulator(str(tmp_path / "tensorboard" / f"run-{run.number:08d}"))
        read.Reload()
        assert [scalar.step for scalar in read.Scalars("valid_accuracy")] == [0, 1, 2, 3]
        assert [scalar.step for scalar in read.Scalars("train_loss")] == [1, 2, 3]


def test_tensorboard_is_off_by_default(finished: Path) -> None:
    assert not (finished / "tensorboard").exists()
