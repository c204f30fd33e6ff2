"""The DARTS search space: genotypes as values, and ways to draw them."""

from dtb_builder.space.cell import OPERATIONS, Edge
from dtb_builder.space.genotype import Genotype
from dtb_builder.space.listing import read_genotypes
from dtb_builder.space.named import NAMED
from dtb_builder.space.numbering import NUM_GENOTYPES
from dtb_builder.space.sampling import mutate, sample_uniform

__all__ = [
    "NAMED",
    "NUM_GENOTYPES",
    "OPERATIONS",
    "Edge",
    "Genotype",
    "mutate",
    "read_genotypes",
    "sample_uniform",
]
