"""A genotype that others trained."""

import math
from dataclasses import dataclass

from dtb_builder.network import NetworkSpec
from dtb_builder.space import Genotype

__all__ = ["Outsider", "TrainedGenotype", "accuracy_of"]


@dataclass(frozen=True)
class TrainedGenotype:
    """A trained genotype.

    Attributes:
        number: the network's position in its file; 0 is the first.
        genotype: the genotype.
        channels: channels of a node in the first cell.
        layers: the number of cells.
        auxiliary: whether it was trained with an auxiliary head.
        test_accuracy: the accuracy after the last epoch, in [0, 1].
    """

    number: int
    genotype: Genotype
    channels: int
    layers: int
    auxiliary: bool
    test_accuracy: float

    def spec(self, *, num_classes: int, image_size: int) -> NetworkSpec:
        """The network spec, for images of three channels and without the auxiliary head."""
        return NetworkSpec(
            channels=self.channels,
            layers=self.layers,
            num_classes=num_classes,
            image_size=image_size,
        )


@dataclass(frozen=True)
class Outsider:
    """A network of the file whose cells are outside the DARTS space, as with the operation none.

    Attributes:
        number: the network's position in its file.
        reason: why it is outside the space.
    """

    number: int
    reason: str


def accuracy_of(percent: float | str) -> float:
    """A published accuracy in percent, as a number in [0, 1].

    Raises:
        ValueError: it is not a number in 0..100.
    """
    accuracy = float(percent) / 100
    if not (math.isfinite(accuracy) and 0 <= accuracy <= 1):
        raise ValueError(f"an accuracy must be in 0..100 percent, got {percent}")
    return accuracy
