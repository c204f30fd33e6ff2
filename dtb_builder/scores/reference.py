"""Reference samples: random genotypes at initialisation, which fix the scale of DAS.

A sample belongs to one network spec and to one probe. The package has samples for the quickstart
and for experiment=fashion_small, made by `python -m dtb_builder.stages.scoring.das_reference`. For
another spec or probe, draw one with `scores.drawing.draw_reference`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import Any

from dtb_builder.errors import NotFoundError
from dtb_builder.network import NetworkSpec

__all__ = [
    "GENOTYPE_SEED",
    "MIN_GENOTYPES",
    "ReferenceSample",
    "find_reference",
    "from_json",
    "shipped_references",
    "to_json",
]

MIN_GENOTYPES = 100
GENOTYPE_SEED = 2212
"""The seed of the genotypes in every reference sample that this package draws."""


@dataclass(frozen=True)
class ReferenceSample:
    """The atoms of random genotypes at initialisation, the first ones of `sample_uniform`.

    Attributes:
        spec: the networks' spec; an auxiliary head does not change scores.
        probe_sha256: the hash of the probe images, ``ProbeImages.sha256``.
        num_images: the number of probe images.
        seed: the seed of the genotypes; the weights of genotype i are initialised with the seed i.
        abilities: D of each genotype.
        activation_units: N_A of each genotype.

    Raises:
        ValueError: there are too few genotypes, or the lengths differ.
    """

    spec: NetworkSpec
    probe_sha256: str
    num_images: int
    seed: int
    abilities: tuple[float, ...]
    activation_units: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.abilities) != len(self.activation_units):
            raise ValueError(
                f"wanted as many abilities as units, got {len(self.abilities)} "
                f"and {len(self.activation_units)}"
            )
        if len(self.abilities) < MIN_GENOTYPES:
            raise ValueError(
                f"a reference needs at least {MIN_GENOTYPES} genotypes, got {len(self.abilities)}"
            )

    def fits(self, spec: NetworkSpec, probe_sha256: str) -> bool:
        """Whether scores of networks with this spec, on this probe, are comparable with it."""
        same = replace(self.spec, auxiliary=False) == replace(spec, auxiliary=False)
        return same and self.probe_sha256 == probe_sha256


def find_reference(spec: NetworkSpec, probe_sha256: str) -> ReferenceSample:
    """The shipped sample for a spec and a probe.

    Raises:
        NotFoundError: there is none; it is also a KeyError.
    """
    shipped = shipped_references()
    for reference in shipped.values():
        if reference.fits(spec, probe_sha256):
            return reference
    raise NotFoundError(
        f"none of the shipped references {', '.join(shipped)} is for {spec} and the probe "
        f"{probe_sha256}: draw one"
    )


def shipped_references() -> dict[str, ReferenceSample]:
    """The samples that come with the package, by the name of their experiment."""
    text = resources.files("dtb_builder.scores").joinpath("references.json").read_text("utf-8")
    return {name: from_json(entry) for name, entry in json.loads(text).items()}


def from_json(entry: Mapping[str, Any]) -> ReferenceSample:
    """A sample as JSON has it, in the shipped file and in files of scores."""
    return ReferenceSample(
        spec=NetworkSpec(**entry["spec"]),
        probe_sha256=entry["probe_sha256"],
        num_images=entry["num_images"],
        seed=entry["seed"],
        abilities=tuple(entry["abilities"]),
        activation_units=tuple(entry["activation_units"]),
    )


def to_json(references: dict[str, ReferenceSample]) -> str:
    """The text of the shipped file; the same samples always give the same text."""
    entries = {name: asdict(reference) for name, reference in references.items()}
    return json.dumps(entries, indent=1) + "\n"
