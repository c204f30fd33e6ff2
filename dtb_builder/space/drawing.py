"""A picture of two cells as SVG."""

from collections.abc import Iterator, Sequence
from html import escape

from dtb_builder.space.cell import Edge

__all__ = ["cells_svg"]

_COLUMN, _RISE, _MARGIN = 112, 30, 52
_BOX_WIDTH, _BOX_HEIGHT = 56, 28
_LETTER = 8.8  # the width of a letter in wide fonts, with some air
_OUTPUT = 6
_NAMES = ("c(k-2)", "c(k-1)", "node 2", "node 3", "node 4", "node 5", "c(k)")

_COLOURS = {
    "max_pool_3x3": "#8c6d31",
    "avg_pool_3x3": "#bd9e39",
    "skip_connect": "#888888",
    "sep_conv_3x3": "#1f77b4",
    "sep_conv_5x5": "#08306b",
    "dil_conv_3x3": "#d6616b",
    "dil_conv_5x5": "#843c39",
}


def cells_svg(normal: Sequence[Edge], reduce: Sequence[Edge], title: str) -> str:
    """The normal cell above the reduction cell, as SVG.

    The nodes of a cell form a row. The first of a node's two edges is an arc above the row, the
    second one below it. Wider arcs are higher, so that no label covers a node or another label.
    """
    parts, top = [], 0.0
    for name, cell in (("normal cell", normal), ("reduction cell", reduce)):
        above, below = (_height(cell[side::2]) for side in (0, 1))
        row = top + _MARGIN + above
        label = f'<text x="12" y="{top + 22:g}" font-weight="bold">{name}</text>'
        parts += [label, *_cell_parts(cell, row)]
        top = row + below + _MARGIN
    width = 2 * _MARGIN + _COLUMN * _OUTPUT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {top:g}" '
        f'width="{width:g}" height="{top:g}" font-family="sans-serif" font-size="14">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#ffffff"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _cell_parts(cell: Sequence[Edge], row: float) -> Iterator[str]:
    labels: list[str] = []
    for i, edge in enumerate(cell):
        node, side = 2 + i // 2, 1 if i % 2 else -1
        start, end = _x(edge.predecessor), _x(node)
        apex = row + side * _rise(node - edge.predecessor)
        colour = _COLOURS[edge.operation]
        # A cubic curve reaches three quarters of its control points' height.
        control = row + (apex - row) * 4 / 3
        yield (
            f'<path d="M{start:g} {row:g}C{start:g} {control:g} {end:g} {control:g} {end:g} '
            f'{row:g}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        )
        middle, wide = (start + end) / 2, _LETTER * len(edge.operation)
        labels.append(
            f'<rect x="{middle - wide / 2:g}" y="{apex - 9:g}" width="{wide:g}" height="18" '
            f'fill="#ffffff"/><text x="{middle:g}" y="{apex + 5:g}" text-anchor="middle" '
            f'fill="{colour}">{edge.operation}</text>'
        )
    yield from labels  # above all arcs
    for node, name in enumerate(_NAMES):
        colour = "#e8f0e4" if node < 2 else "#f4f4f4" if node == _OUTPUT else "#ffffff"
        yield (
            f'<rect x="{_x(node) - _BOX_WIDTH / 2:g}" y="{row - _BOX_HEIGHT / 2:g}" '
            f'width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6" fill="{colour}" '
            f'stroke="#333333"/><text x="{_x(node):g}" y="{row + 5:g}" '
            f'text-anchor="middle">{name}</text>'
        )
    yield (
        f'<text x="{_x(_OUTPUT):g}" y="{row + 30:g}" text-anchor="middle" font-size="11" '
        f'fill="#555555">concatenates</text><text x="{_x(_OUTPUT):g}" y="{row + 43:g}" '
        f'text-anchor="middle" font-size="11" fill="#555555">nodes 2 to 5</text>'
    )


def _x(node: int) -> float:
    return _MARGIN + _COLUMN * node


def _rise(distance: int) -> float:
    """The height of an arc over a number of columns."""
    return 14 + _RISE * distance


def _height(edges: Sequence[Edge]) -> float:
    """The height of the highest arc on one side of a cell, given each node's edge on that side."""
    return max(_rise(node - edge.predecessor) for node, edge in enumerate(edges, start=2))
