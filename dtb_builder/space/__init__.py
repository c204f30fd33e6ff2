"""The DARTS search space: genotypes as values, and ways to draw them."""
