"""The network that a genotype describes, in torch."""
