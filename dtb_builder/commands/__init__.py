"""The commands of ``dtb`` and their arguments, grouped by purpose."""
