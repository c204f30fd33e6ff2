"""Scores of networks and how well they rank them; what needs torch is in the modules that have it.

Of a network: `activations`, `swap`, `gradients`, `jacobian`, `synflow`, `zen`, `size`, `drawing`;
all of them at once: `scoring`. Of rankings, by matrix products: `resampling` and `rules`.
"""

from dtb_builder.metrics.ability import (
    distinguishing_ability,
    max_distinguishing_ability,
    mean_hamming_distance,
    wot,
)
from dtb_builder.metrics.combining import Atoms, Moments, das, linear, log_rank, rank_sum, z_sum
from dtb_builder.metrics.curves import training_speed
from dtb_builder.metrics.kernel import Agreement, agreement
from dtb_builder.metrics.probe import ProbeImages, choose_probe
from dtb_builder.metrics.ranking import (
    Comparison,
    Interval,
    bootstrap,
    compare,
    kendall_tau,
    partial_tau,
    spearman_rho,
    top_overlap,
)
from dtb_builder.metrics.reference import ReferenceSample, find_reference, shipped_references
from dtb_builder.metrics.units import activation_units

__all__ = [
    "Agreement",
    "Atoms",
    "Comparison",
    "Interval",
    "Moments",
    "ProbeImages",
    "ReferenceSample",
    "activation_units",
    "agreement",
    "bootstrap",
    "choose_probe",
    "compare",
    "das",
    "distinguishing_ability",
    "find_reference",
    "kendall_tau",
    "linear",
    "log_rank",
    "max_distinguishing_ability",
    "mean_hamming_distance",
    "partial_tau",
    "rank_sum",
    "shipped_references",
    "spearman_rho",
    "top_overlap",
    "training_speed",
    "wot",
    "z_sum",
]
