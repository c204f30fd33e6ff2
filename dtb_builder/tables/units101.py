"""The number of ReLU units of a NAS-Bench-101 network, computed from its cell; needs no torch."""

from dtb_builder.tables.cell101 import Cell101

__all__ = ["CELLS_PER_STACK", "NUM_STACKS", "activation_units101"]

NUM_STACKS = 3
CELLS_PER_STACK = 3


def activation_units101(cell: Cell101, *, channels: int, image_size: int) -> int:
    """N_A of a `Network101`, the number of its ReLU units for one image.

    Every convolution ends in a ReLU: the stem, the inner vertices that are convolutions, and the
    projections of a cell's input to the vertices that read it.

    Args:
        cell: the cell.
        channels: channels of the first stack.
        image_size: height and width of the images in pixels.
    """
    units = channels * image_size**2
    for i in range(NUM_STACKS):
        of_cell = _channels_with_relu(cell, channels * 2**i)
        units += CELLS_PER_STACK * of_cell * (image_size // 2**i) ** 2
    return units


def _channels_with_relu(cell: Cell101, channels_out: int) -> int:
    widths = {**cell.channels(channels_out), cell.output: channels_out}
    convolutions = sum(
        widths[vertex]
        for vertex, name in enumerate(cell.operations, start=1)
        if name.startswith("conv")
    )
    return convolutions + sum(widths[end] for start, end in cell.edges if start == 0)
