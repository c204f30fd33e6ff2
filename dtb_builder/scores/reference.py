"""Reference samples: random genotypes at initialisation, whose moments freeze the scale of DAS.

A sample belongs to one kind of network and to one probe. Those of the quickstart and of
experiment=fashion_small come with the package; `python -m dtb_builder.stages.scoring.das_reference`
makes them again. For any other network or probe, draw one with `scores.drawing.draw_reference`.
"""

import json
from dataclasses import asdict, dataclass, replace
from importlib import resources

from dtb_builder.errors import NotFoundError
from dtb_builder.network import NetworkSpec

__all__ = [
    "GENOTYPE_SEED",
    "MIN_GENOTYPES",
    "ReferenceSample",
    "find_reference",
    "shipped_references",
    "to_json",
]

MIN_GENOTYPES = 100
GENOTYPE_SEED = 2212
"""Of the genotypes of every reference that this package draws."""


@dataclass(frozen=True)
class ReferenceSample:
    """The atoms of `sample_uniform`'s first genotypes of a seed, newly initialised.

    Attributes:
        spec: how the genotypes were grown; its auxiliary head has no part in scores.
        probe_sha256: hash of the probe images, ``ProbeImages.sha256``.
        num_images: how many they are.
        seed: of the genotypes; genotype i is initialised with the seed i.
        abilities: D of each.
        activation_units: N_A of each.
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
        """Whether scores of such networks on such a probe may be compared with it."""
        same = replace(self.spec, auxiliary=False) == replace(spec, auxiliary=False)
        return same and self.probe_sha256 == probe_sha256


def find_reference(spec: NetworkSpec, probe_sha256: str) -> ReferenceSample:
    """The shipped sample that fits.

    Raises:
        KeyError: there is none.
    """
    shipped = shipped_references()
    for reference in shipped.values():
        if reference.fits(spec, probe_sha256):
            return reference
    raise NotFoundError(
        f"none of the shipped references {', '.join(shipped)} is of {spec} and of the probe "
        f"{probe_sha256}: draw one"
    )


def shipped_references() -> dict[str, ReferenceSample]:
    """The samples that come with the package, by the name of their experiment."""
    text = resources.files("dtb_builder.scores").joinpath("references.json").read_text("utf-8")
    return {
        name: ReferenceSample(
            spec=NetworkSpec(**entry["spec"]),
            probe_sha256=entry["probe_sha256"],
            num_images=entry["num_images"],
            seed=entry["seed"],
            abilities=tuple(entry["abilities"]),
            activation_units=tuple(entry["activation_units"]),
        )
        for name, entry in json.loads(text).items()
    }


def to_json(references: dict[str, ReferenceSample]) -> str:
    """The text of the shipped file; equal samples give equal texts."""
    entries = {name: asdict(reference) for name, reference in references.items()}
    return json.dumps(entries, indent=1) + "\n"
