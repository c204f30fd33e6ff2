"""Scores, numbers computed from a network; a larger score predicts a better network.

`activations`, `swap`, `gradients`, `jacobian`, `synflow`, `zen` and `size` need torch and are
imported one by one; `scoring` computes all scores at once, `drawing` draws reference samples.
"""

from dtb_builder.scores.ability import (
    distinguishing_ability,
    max_distinguishing_ability,
    mean_hamming_distance,
    wot,
)
from dtb_builder.scores.combining import (
    Atoms,
    Scale,
    das,
    das3,
    linear,
    log_rank,
    rank_sum,
    z_sum,
)
from dtb_builder.scores.curves import training_speed
from dtb_builder.scores.kernel import Agreement, agreement
from dtb_builder.scores.probe import ProbeImages, choose_probe
from dtb_builder.scores.reference import ReferenceSample, find_reference, shipped_references
from dtb_builder.scores.units import activation_units
from dtb_builder.scores.wiring import cell_depth, input_edges, standardised_input_edges

__all__ = [
    "Agreement",
    "Atoms",
    "ProbeImages",
    "ReferenceSample",
    "Scale",
    "activation_units",
    "agreement",
    "cell_depth",
    "choose_probe",
    "das",
    "das3",
    "distinguishing_ability",
    "find_reference",
    "input_edges",
    "linear",
    "log_rank",
    "max_distinguishing_ability",
    "mean_hamming_distance",
    "rank_sum",
    "shipped_references",
    "standardised_input_edges",
    "training_speed",
    "wot",
    "z_sum",
]
