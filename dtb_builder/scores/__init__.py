"""Numbers computed from a network, larger for what it takes to be better.

`activations`, `swap`, `gradients`, `jacobian`, `synflow`, `zen` and `size` need torch and are
imported from their modules; `scoring` computes all at once, `drawing` draws reference samples.
"""

from dtb_builder.scores.ability import (
    distinguishing_ability,
    max_distinguishing_ability,
    mean_hamming_distance,
    wot,
)
from dtb_builder.scores.combining import Atoms, Moments, das, linear, log_rank, rank_sum, z_sum
from dtb_builder.scores.curves import training_speed
from dtb_builder.scores.kernel import Agreement, agreement
from dtb_builder.scores.probe import ProbeImages, choose_probe
from dtb_builder.scores.reference import ReferenceSample, find_reference, shipped_references
from dtb_builder.scores.units import activation_units

__all__ = [
    "Agreement",
    "Atoms",
    "Moments",
    "ProbeImages",
    "ReferenceSample",
    "activation_units",
    "agreement",
    "choose_probe",
    "das",
    "distinguishing_ability",
    "find_reference",
    "linear",
    "log_rank",
    "max_distinguishing_ability",
    "mean_hamming_distance",
    "rank_sum",
    "shipped_references",
    "training_speed",
    "wot",
    "z_sum",
]
