"""Scores of networks and how well they rank them; what needs torch is in the modules that have it.

Of a network: `activations`, `swap`, `gradients`, `jacobian`, `synflow`, `zen`, `size`, `drawing`.
"""

from dtb_builder.metrics.ability import (
    distinguishing_ability,
    max_distinguishing_ability,
    mean_hamming_distance,
    wot,
)
from dtb_builder.metrics.kernel import Agreement, agreement
from dtb_builder.metrics.probe import ProbeImages, choose_probe
from dtb_builder.metrics.units import activation_units

__all__ = [
    "Agreement",
    "ProbeImages",
    "activation_units",
    "agreement",
    "choose_probe",
    "distinguishing_ability",
    "max_distinguishing_ability",
    "mean_hamming_distance",
    "wot",
]
