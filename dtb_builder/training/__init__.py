"""Training of any torch module, epoch by epoch; knows no genotype and no file format."""
