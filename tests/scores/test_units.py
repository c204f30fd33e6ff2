import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.network import NetworkSpec
from dtb_builder.scores import activation_units
from dtb_builder.space import Edge, Genotype, sample_uniform

genotypes = st.builds(sample_uniform, st.just(0), st.integers(0, 10**6))


def spec(channels: int = 4, layers: int = 3, image_size: int = 32) -> NetworkSpec:
    return NetworkSpec(channels=channels, layers=layers, num_classes=10, image_size=image_size)


@given(genotypes, st.integers(1, 20))
def test_units_are_proportional_to_channels(genotype: Genotype, layers: int) -> None:
    few, many = (activation_units(genotype, spec(c, layers)) for c in (4, 12))
    assert many == 3 * few


@given(genotypes, st.integers(1, 20))
def test_units_are_proportional_to_pixels(genotype: Genotype, layers: int) -> None:
    few, many = (activation_units(genotype, spec(4, layers, size)) for size in (16, 32))
    assert many == 4 * few


@given(genotypes)
def test_all_spellings_have_as_many(genotype: Genotype) -> None:
    swapped = Genotype(*(_swapped(cell) for cell in (genotype.normal, genotype.reduce)))
    assert activation_units(swapped, spec()) == activation_units(genotype, spec())


def _swapped(cell: tuple[Edge, ...]) -> tuple[Edge, ...]:
    return tuple(cell[i ^ 1] for i in range(8))


@pytest.mark.parametrize(
    ("operation", "normal", "halving", "inner"),
    [
        ("max_pool_3x3", 0, 0, 0),
        ("avg_pool_3x3", 0, 0, 0),
        ("skip_connect", 0, 4, 0),
        ("sep_conv_3x3", 2, 5, 2),
        ("sep_conv_5x5", 2, 5, 2),
        ("dil_conv_3x3", 1, 4, 1),
        ("dil_conv_5x5", 1, 4, 1),
    ],
)
def test_an_edge_adds_as_many(operation: str, normal: int, halving: int, inner: int) -> None:
    """In maps of the size that the edge's node has; at stride 2 its input's are four times it."""
    pools = Genotype.from_array(PLAIN)
    with_edges = Genotype(
        (Edge(operation, 0), *pools.normal[1:]),
        (Edge(operation, 0), *pools.reduce[1:6], Edge(operation, 2), pools.reduce[7]),
    )
    # With 3 cells: a normal one of 32 pixels, then reductions to 16 and 8.
    added = activation_units(with_edges, spec()) - activation_units(pools, spec())
    maps = [4 * 32**2, 8 * 16**2, 16 * 8**2]
    assert added == normal * maps[0] + (halving + inner) * (maps[1] + maps[2])


PLAIN = sample_uniform(0, 0).to_array()
PLAIN[:, :, 0] = 0
PLAIN[:, ::2, 1] = [0, 0, 0, 2]
PLAIN[:, 1::2, 1] = 1
"""All max pooling; nodes read the cell's inputs, but for the last, which reads node 2 too."""
