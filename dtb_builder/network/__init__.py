"""Networks of the DARTS space; what needs torch is imported from the module that has it."""

from dtb_builder.network.spec import NetworkSpec

__all__ = ["NetworkSpec"]
