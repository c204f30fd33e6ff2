from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.space import NAMED, Genotype, mutate, sample_uniform
from dtb_builder.space.cell import relabelled_cells

genotypes = st.integers(0, 2**32).map(lambda seed: sample_uniform(seed, 0))


@given(genotypes, genotypes, genotypes)
def test_it_is_a_metric(one: Genotype, two: Genotype, three: Genotype) -> None:
    assert one.distance(two) == two.distance(one) <= 32
    assert (one.distance(two) == 0) == (one.iso_key == two.iso_key)
    assert one.distance(three) <= one.distance(two) + two.distance(three)


@given(genotypes, st.data())
def test_the_numbers_of_nodes_and_the_order_of_edges_do_not_matter(
    genotype: Genotype, data: st.DataObject
) -> None:
    normal = data.draw(st.sampled_from(list(relabelled_cells(genotype.normal))))
    swapped = tuple(edge for i in range(0, 8, 2) for edge in (normal[i + 1], normal[i]))
    other = Genotype(swapped, genotype.reduce)
    assert genotype.distance(other) == 0
    assert other.distance(NAMED["SGAS"]) == genotype.distance(NAMED["SGAS"])


def test_a_mutation_is_one_edit_away() -> None:
    for i in range(50):
        parent = sample_uniform(1, i)
        assert parent.distance(mutate(parent, 1, i)) <= 1
