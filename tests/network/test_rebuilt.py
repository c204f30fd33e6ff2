"""A stored state makes its network again; a file's claims alone make nothing."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from dtb_builder.network import NetworkSpec
from dtb_builder.network import network as network_module
from dtb_builder.network.rebuilt import rebuilt, table_without_states
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.space import OPERATIONS, Edge, Genotype, sample_uniform

SPEC = NetworkSpec(channels=4, layers=3, num_classes=10, image_size=8, auxiliary=False)


def test_a_network_is_made_again_and_no_random_number_is_used() -> None:
    network = SPEC.build(sample_uniform(0, 0)).eval()
    before = torch.get_rng_state()
    again = rebuilt(sample_uniform(0, 0), SPEC, tensor_table(network), capture(network))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in again.modules())
    assert all(parameter.requires_grad for parameter in again.parameters())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(again(images), network(images))


def test_threads_use_no_random_numbers_either() -> None:
    network = SPEC.build(sample_uniform(0, 0))
    table, state = tensor_table(network), capture(network)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: rebuilt(sample_uniform(0, 0), SPEC, table, state), range(40)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_network_may_be_the_one_of_its_state(operation: str) -> None:
    cell = (Edge(operation, 0), Edge(operation, 1)) * 4
    genotype = Genotype(normal=cell, reduce=cell)
    network = SPEC.build(genotype)
    rebuilt(genotype, SPEC, tensor_table(network), capture(network))


@pytest.mark.parametrize(
    "claim", [{"channels": 20_000}, {"layers": 100_000}, {"channels": 8}, {"num_classes": 11}]
)
def test_another_network_than_the_states_is_refused_before_it_takes_memory(
    claim: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SPEC.build(sample_uniform(0, 0))
    table, state = tensor_table(network), capture(network)
    made: list[NetworkSpec] = []

    class Counted(network_module.Network):
        def __init__(self, genotype: Genotype, spec: NetworkSpec) -> None:
            if torch.get_default_device().type != "meta":
                made.append(spec)
            super().__init__(genotype, spec)

    monkeypatch.setattr("dtb_builder.network.rebuilt.Network", Counted)
    with pytest.raises(ValueError, match="are not those of the network of its genotype"):
        rebuilt(sample_uniform(0, 0), replace(SPEC, **claim), table, state)
    assert all(spec.channels <= 8 and spec.layers == 3 for spec in made)


def test_a_table_is_made_of_a_genotype_but_not_of_an_endless_claim() -> None:
    table = tensor_table(SPEC.build(sample_uniform(0, 0)))
    assert table_without_states(sample_uniform(0, 0), SPEC, table.num_floats) == table
    with pytest.raises(ValueError, match="not those of the network of its genotype"):
        table_without_states(sample_uniform(0, 0), SPEC, table.num_floats + 1)
    with pytest.raises(ValueError, match="at most 256 layers without a state, got 100000"):
        table_without_states(sample_uniform(0, 0), replace(SPEC, layers=100_000), 2**25)
