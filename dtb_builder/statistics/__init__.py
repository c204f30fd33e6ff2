"""How well numbers order networks, and how sure that is; numpy only.

`resampling` has the bootstrap by matrix products, `rules` chooses among combinations of scores.
"""

from dtb_builder.statistics.ranking import (
    Comparison,
    Interval,
    bootstrap,
    compare,
    kendall_tau,
    partial_tau,
    spearman_rho,
    top_overlap,
)

__all__ = [
    "Comparison",
    "Interval",
    "bootstrap",
    "compare",
    "kendall_tau",
    "partial_tau",
    "spearman_rho",
    "top_overlap",
]
