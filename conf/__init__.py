"""The Hydra config groups, shipped as a package so that an installed dtb finds them."""
