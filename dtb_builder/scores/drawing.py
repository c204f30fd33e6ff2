"""Draw a reference sample for any network spec and probe."""

import torch
from torch import Tensor

from dtb_builder.network import NetworkSpec
from dtb_builder.scores.ability import distinguishing_ability
from dtb_builder.scores.activations import network_agreement
from dtb_builder.scores.reference import ReferenceSample
from dtb_builder.space import sample_uniform

__all__ = ["draw_atoms", "draw_reference"]


def draw_reference(
    spec: NetworkSpec, images: Tensor, probe_sha256: str, num_genotypes: int, *, seed: int
) -> ReferenceSample:
    """Score uniformly drawn genotypes at initialisation; torch's default generator is not changed.

    Args:
        spec: how a genotype is made into a network.
        images: the probe, normalised, shape (images, channels, height, width).
        probe_sha256: the probe's ``ProbeImages.sha256``.
        num_genotypes: how many, at least MIN_GENOTYPES.
        seed: draws the genotypes; the weights of genotype i are initialised with the seed i.

    Raises:
        SingularKernelError: a network does not tell all images apart.
    """
    atoms = [draw_atoms(spec, images, i, seed=seed) for i in range(num_genotypes)]
    return ReferenceSample(
        spec=spec,
        probe_sha256=probe_sha256,
        num_images=len(images),
        seed=seed,
        abilities=tuple(ability for ability, _ in atoms),
        activation_units=tuple(units for _, units in atoms),
    )


def draw_atoms(spec: NetworkSpec, images: Tensor, number: int, *, seed: int) -> tuple[float, int]:
    """D and N_A of one genotype of a reference sample; see `draw_reference`.

    Raises:
        SingularKernelError: the network does not tell all images apart.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(number)
        network = spec.build(sample_uniform(seed, number))
    kernel = network_agreement(network.to(images.device), images)
    return distinguishing_ability(kernel), kernel.activation_units
