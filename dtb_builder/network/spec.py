"""The settings that make a network of a genotype, as a value for files; needs no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtb_builder.space import Genotype

if TYPE_CHECKING:
    from dtb_builder.network.network import Network

__all__ = ["AUXILIARY_HEAD", "NetworkSpec"]

AUXILIARY_HEAD = "auxiliary_head."
"""The prefix of the auxiliary head's tensor names."""

SMALLEST_IMAGE = 8
AUXILIARY_MAPS = range(8, 11)
"""The map sizes that the auxiliary head pools to 2 x 2 and convolves to 1 x 1."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """The size of a network and the shape of its input and output.

    >>> spec = NetworkSpec(channels=36, layers=20, num_classes=10, image_size=32)
    >>> sorted(spec.reductions), spec.auxiliary_cell
    ([6, 13], 13)

    Attributes:
        channels: channels of a node in the first cell; each reduction cell doubles them.
        layers: number of cells.
        num_classes: number of logits.
        input_channels: channels of an image.
        image_size: height and width of an image in pixels.
        auxiliary: whether a second classifier is trained on an inner cell.
    """

    channels: int
    layers: int
    num_classes: int
    input_channels: int = 3
    image_size: int
    auxiliary: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "layers", "num_classes", "input_channels", "image_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if not isinstance(self.auxiliary, bool):
            raise ValueError(f"auxiliary must be true or false, got {self.auxiliary!r}")
        if self.image_size < SMALLEST_IMAGE:
            raise ValueError(
                f"image_size must be at least {SMALLEST_IMAGE} pixels, got {self.image_size}"
            )
        if self.auxiliary and self.map_size not in AUXILIARY_MAPS:
            scale = 2 ** len(self.reductions)
            smallest, largest = scale * (AUXILIARY_MAPS[0] - 1) + 1, scale * AUXILIARY_MAPS[-1]
            raise ValueError(
                f"the auxiliary head needs a map of {AUXILIARY_MAPS[0]} to {AUXILIARY_MAPS[-1]} "
                f"pixels, got {self.map_size} from image_size {self.image_size} with {self.layers} "
                f"layers; images of {smallest} to {largest} pixels would fit"
            )

    @property
    def reductions(self) -> frozenset[int]:
        """The numbers of the reduction cells: two, or one if there is only one cell."""
        return frozenset({self.layers // 3, 2 * self.layers // 3})

    @property
    def auxiliary_cell(self) -> int:
        """The number of the cell whose output the auxiliary head reads: the last reduction cell."""
        return 2 * self.layers // 3

    @property
    def map_size(self) -> int:
        """Height and width of a map after the last reduction cell; a reduction rounds up."""
        return -(-self.image_size // 2 ** len(self.reductions))

    def build(self, genotype: Genotype) -> "Network":
        """A network with weights drawn from torch's default generator."""
        from dtb_builder.network.network import Network  # here, so that a spec needs no torch

        return Network(genotype, self)
