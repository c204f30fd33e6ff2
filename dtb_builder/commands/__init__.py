"""The commands of ``dtb``, by what they are for, each with its arguments."""
