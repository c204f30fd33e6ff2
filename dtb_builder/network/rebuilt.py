"""A network with the weights of a stored state."""

import torch

from dtb_builder.network.network import Network
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.network.state import restore, tensor_table
from dtb_builder.record import TensorTable, TrainingState
from dtb_builder.space import Genotype

__all__ = ["rebuilt"]


def rebuilt(
    genotype: Genotype, spec: NetworkSpec, tensors: TensorTable, state: TrainingState
) -> Network:
    """The network, in evaluation mode; the caller's random numbers are not touched.

    Raises:
        ValueError: its tensors are others than those of the state, by name or shape.
    """
    network = None
    if spec.layers <= len(tensors.names):
        with torch.device("meta"):  # which takes no memory, whatever the file says
            network = Network(genotype, spec)
    if network is None or tensor_table(network) != tensors:
        raise ValueError("its tensors are not those of the network of its genotype")
    network.to_empty(device="cpu")
    restore(network, state)
    return network.eval()
