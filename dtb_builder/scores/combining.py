"""DAS: rules that combine distinguishing ability and activation units into one score.

The paper (arXiv:2212.12132) combines these two atoms, but its rule is not public. All rules here
are ours. They differ in the weights of the atoms; in WOT / n both D / n and A have the weight 1,
however little one of them varies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from dtb_builder.scores.reference import ReferenceSample
from dtb_builder.scores.wiring import standardised_input_edges

__all__ = [
    "Atoms",
    "Scale",
    "das",
    "das3",
    "linear",
    "log_rank",
    "log_rank_sum",
    "rank_sum",
    "z_sum",
]


@dataclass(frozen=True, eq=False)
class Atoms:
    """The two atoms of networks that were scored on the same probe images.

    Attributes:
        abilities: D of each network, float64, shape (networks,).
        units: N_A of each network, int64, shape (networks,).
        num_images: the number n of probe images.
    """

    abilities: NDArray[np.float64]
    units: NDArray[np.int64]
    num_images: int

    def __post_init__(self) -> None:
        if self.abilities.ndim != 1 or self.abilities.shape != self.units.shape:
            raise ValueError(
                "abilities and units must both have shape (networks,), "
                f"got {self.abilities.shape} and {self.units.shape}"
            )
        if self.num_images < 2:
            raise ValueError(f"num_images must be at least 2, got {self.num_images}")
        if not np.isfinite(self.abilities).all():
            raise ValueError("abilities must be finite: leave out networks with singular kernels")
        if (self.units < 1).any():
            raise ValueError(f"units must be at least 1, got {self.units.min()}")

    @property
    def ability_per_image(self) -> NDArray[np.float64]:
        """D / n, shape (networks,)."""
        return self.abilities / self.num_images

    @property
    def log_units(self) -> NDArray[np.float64]:
        """A = log N_A, shape (networks,)."""
        return np.log(self.units)


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of D / n and of A over a population of networks.

    Raises:
        ValueError: a deviation is not above 0, or a number is not finite.
    """

    ability_mean: float
    ability_deviation: float
    units_mean: float
    units_deviation: float

    def __post_init__(self) -> None:
        numbers = (self.ability_mean, self.ability_deviation, self.units_mean, self.units_deviation)
        if not np.isfinite(numbers).all():
            raise ValueError(f"means and deviations must be finite, got {self}")
        if self.ability_deviation <= 0 or self.units_deviation <= 0:
            raise ValueError(f"deviations must be above 0, got {self}")

    @classmethod
    def of(cls, atoms: Atoms) -> "Scale":
        """The scale of these networks, with the population's standard deviation."""
        ability, units = atoms.ability_per_image, atoms.log_units
        return cls(
            float(ability.mean()), float(ability.std()), float(units.mean()), float(units.std())
        )


def das(atoms: Atoms, reference: ReferenceSample) -> NDArray[np.float64]:
    """Our default DAS, the `z_sum` with the scale of a reference sample; shape (networks,).

    The fixed scale makes a network's score independent of the other networks that are scored.

    Raises:
        ValueError: the reference was scored on another number of images.
    """
    if atoms.num_images != reference.num_images:
        raise ValueError(
            f"scores on {atoms.num_images} images need a reference on as many images, "
            f"got one on {reference.num_images}"
        )
    scale = Scale.of(
        Atoms(
            np.array(reference.abilities),
            np.array(reference.activation_units),
            reference.num_images,
        )
    )
    return z_sum(atoms, scale)


def das3(atoms: Atoms, input_edges: ArrayLike, reference: ReferenceSample) -> NDArray[np.float64]:
    """DAS with a third atom: z(D / n) + z(A) + z(I), shape (networks,). Ours.

    I is the number of edges that read the normal cell's own inputs. It is nearly independent of
    WOT: on the 360 genotypes of NAS-Bench-301 in this repository, their Kendall's tau is 0.06. The
    three atoms have the same weight; nothing is fitted. That a larger I is better is a fact of the
    DARTS space.

    Args:
        atoms: D and N_A of the networks.
        input_edges: `wiring.input_edges` of each network, shape (networks,).
        reference: fixes the scale, as in `das`.

    Raises:
        ValueError: the reference was scored on another number of images.
    """
    return das(atoms, reference) + standardised_input_edges(input_edges)


def z_sum(atoms: Atoms, scale: Scale) -> NDArray[np.float64]:
    """The sum of both atoms in standard deviations: z(D / n) + z(A), shape (networks,). Ours."""
    ability = (atoms.ability_per_image - scale.ability_mean) / scale.ability_deviation
    units = (atoms.log_units - scale.units_mean) / scale.units_deviation
    return ability + units


def linear(atoms: Atoms, weight: float) -> NDArray[np.float64]:
    """D / n + weight * A, shape (networks,); with weight 1 it is WOT / n, with 0 D / n. Ours."""
    return atoms.ability_per_image + weight * atoms.log_units


def rank_sum(atoms: Atoms) -> NDArray[np.float64]:
    """The sum of both atoms' ranks among these networks; ties have their mean rank. Ours.

    It depends on which networks are ranked together, and so does `log_rank`.
    """
    return stats.rankdata(atoms.abilities) + stats.rankdata(atoms.units)


def log_rank(atoms: Atoms) -> NDArray[np.float64]:
    """The sum of the logarithms of both ranks, where a low rank in one atom costs most. Ours."""
    return log_rank_sum([atoms.abilities, atoms.units])


def log_rank_sum(parts: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """The sum of the logarithms of ranks, as AZ-NAS (`az_nas`) combines its four parts.

    Args:
        parts: scores of the networks, each of shape (networks,).
    """
    return np.sum([np.log(stats.rankdata(part)) for part in parts], axis=0)
