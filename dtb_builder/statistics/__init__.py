"""Rank correlations and other measures of how well scores order networks; numpy, scipy.

`resampling` has the bootstrap as matrix products, `rules` chooses among combinations of scores.
"""

from dtb_builder.statistics.best import ndcg, top_overlap
from dtb_builder.statistics.ranking import Interval, kendall_tau, partial_tau, spearman_rho

__all__ = ["Interval", "kendall_tau", "ndcg", "partial_tau", "spearman_rho", "top_overlap"]
