import numpy as np
import pytest

from dtb_builder.scores import training_speed

LOSSES = np.ma.masked_array(
    [[0.0, 2.0, 1.0, 0.5], [0.0, 3.0, 2.5, 2.0]],
    mask=[[True, False, False, False], [True, False, True, False]],
)


def test_the_network_that_learns_faster_has_the_larger_score() -> None:
    assert training_speed(LOSSES, epoch=1).tolist() == [-2, -3]


def test_a_run_lacks_a_score_where_it_lacks_a_loss() -> None:
    speeds = training_speed(LOSSES, epoch=3)
    assert speeds.tolist() == [-3.5, None]


@pytest.mark.parametrize("epoch", [0, -1, 4])
def test_epochs_without_training_are_refused(epoch: int) -> None:
    with pytest.raises(ValueError, match=rf"epoch must be in 1\.\.3, got {epoch}"):
        training_speed(LOSSES, epoch=epoch)
