"""The weights of a run's last epochs, averaged, with batch norms estimated anew.

python examples/averaged_weights.py [dtb.h5]
"""

import sys
from collections.abc import Sequence

import numpy as np
import torch

from dtb_builder import Benchmark, Run
from dtb_builder.dataset.trained_images import TrainedImages, TrainedPart
from dtb_builder.network.network import Network
from dtb_builder.network.recalibration import recalibrated


def averaged(run: Run, epochs: Sequence[int], images: TrainedImages) -> Network:
    """The network of the mean of some states; its batch norms see the training images again."""
    states = [run.training_state(epoch=epoch).values for epoch in epochs]
    mean = np.stack(states).mean(axis=0)
    return recalibrated(run.network(state=mean), images.train.images)


@torch.inference_mode()
def accuracy(network: Network, part: TrainedPart) -> float:
    """Of images as they are."""
    logits = network(torch.from_numpy(part.images))
    assert isinstance(logits, torch.Tensor)
    return float((logits.argmax(1).numpy() == part.labels).mean())


if __name__ == "__main__":
    with Benchmark(sys.argv[1]) if len(sys.argv) > 1 else Benchmark.example() as benchmark:
        found = benchmark.images()
        for each in benchmark:
            last = each.state_epochs[-3:]
            better = accuracy(averaged(each, last, found), found.test)
            print(each.number, last, each.metric("test_accuracy", epoch=-1), "->", better)
