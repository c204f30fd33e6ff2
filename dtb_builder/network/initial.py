"""A network before its training."""

import torch

from dtb_builder.network.network import Network
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.space import Genotype

__all__ = ["initial_network"]


def initial_network(genotype: Genotype, spec: NetworkSpec, seed: int) -> Network:
    """The initialised network of a run, on the CPU, where it is the same for every device."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        return Network(genotype, spec)
