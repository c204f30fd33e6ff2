"""Networks of the DARTS space; modules that need torch are imported one by one."""

from dtb_builder.network.spec import NetworkSpec

__all__ = ["NetworkSpec"]
