"""A network with the weights of a stored state."""

from dataclasses import replace
from functools import lru_cache
from threading import Lock

import torch

from dtb_builder.network.network import Network
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.network.state import restore, tensor_table
from dtb_builder.record import TensorTable, TrainingState
from dtb_builder.space import Edge, Genotype

__all__ = ["check_claim", "rebuilt", "table_without_states"]

_OTHER = "its tensors are not those of the network of its genotype"

_MOST_LAYERS = 256
"""Of a network without stored states, which would bound it; each takes some milliseconds."""

_POOLS = (Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1)) * 4
_WITHOUT_WEIGHTS = Genotype(normal=_POOLS, reduce=_POOLS)


_INITIALISING = Lock()
"""Initialising draws from torch's default generator, whose state threads share."""


def rebuilt(
    genotype: Genotype, spec: NetworkSpec, tensors: TensorTable, state: TrainingState
) -> Network:
    """The network in evaluation mode; torch's default generator is not changed.

    Args:
        genotype: the network's cells.
        spec: how the genotype is made into a network.
        tensors: the names and shapes of the state's tensors.
        state: parameters and batch-norm statistics.

    Raises:
        ValueError: the network's tensors differ from those of the state by name or shape.
    """
    check_claim(spec, tensors)
    with _INITIALISING, torch.random.fork_rng([]):
        network = Network(genotype, spec).float()
    if tensor_table(network) != tensors:
        raise ValueError(_OTHER)
    restore(network, state)
    return network.eval()


def check_claim(spec: NetworkSpec, tensors: TensorTable) -> None:
    """Check that a network is no larger than its states, before memory is allocated for it.

    Args:
        spec: how a file claims that the genotype is made into a network.
        tensors: the tensor table of the states in the file.

    Raises:
        ValueError: the network is larger.
    """
    spec = replace(spec, auxiliary=False)  # a head may have been left out of the states
    if spec.layers > len(tensors.names) or _least_floats(spec) > tensors.num_floats:
        raise ValueError(_OTHER)


def table_without_states(genotype: Genotype, spec: NetworkSpec, num_floats: int) -> TensorTable:
    """The tensor table of a network, made without memory for its weights.

    Args:
        genotype: the network's cells.
        spec: how a file claims that the genotype is made into a network.
        num_floats: of a state, by the same file.

    Raises:
        ValueError: the network has another number of floats, or more than 256 layers.
    """
    if spec.layers > _MOST_LAYERS:
        raise ValueError(f"at most {_MOST_LAYERS} layers without a state, got {spec.layers}")
    if (table := _table(genotype, spec)).num_floats != num_floats:
        raise ValueError(_OTHER)
    return table


@lru_cache(maxsize=16)
def _least_floats(spec: NetworkSpec) -> int:
    """The floats of a spec's smallest network, with pools only; no other has many times as many."""
    return _table(_WITHOUT_WEIGHTS, spec).num_floats


def _table(genotype: Genotype, spec: NetworkSpec) -> TensorTable:
    try:
        with torch.device("meta"):  # tensors without memory
            return tensor_table(Network(genotype, spec).float())
    except RuntimeError as error:  # a tensor with more bytes than 64 bits can count
        raise ValueError(_OTHER) from error
