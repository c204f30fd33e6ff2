"""Makes the reference samples of DAS that come with the package.

    python -m dtb_builder.stages.scoring.das_reference > dtb_builder/scores/references.json

The file is frozen: new numbers are new scores. On another processor a few codes differ, and with
them the last digits.
"""

from dataclasses import dataclass

from dtb_builder.network import NetworkSpec
from dtb_builder.scores import ReferenceSample, choose_probe
from dtb_builder.scores.drawing import draw_reference
from dtb_builder.scores.probed import probe_tensor
from dtb_builder.scores.reference import GENOTYPE_SEED, to_json
from dtb_builder.stages.settings.images import ImagesConfig, load_split_images
from dtb_builder.training.setup import set_up_torch

__all__ = ["EXPERIMENTS", "Experiment", "reference_of"]

NUM_IMAGES = 128
PROBE_SEED = 0
NUM_GENOTYPES = 200


@dataclass(frozen=True)
class Experiment:
    """What a reference hangs on of an experiment in conf/.

    Attributes:
        images: the image set and its split.
        channels: of the networks' first nodes.
        layers: the networks' cells.
    """

    images: ImagesConfig
    channels: int
    layers: int


EXPERIMENTS = {
    "quickstart": Experiment(
        ImagesConfig(name="digits", root=None, num_valid=200, split_seed=0), channels=8, layers=3
    ),
    "fashion_small": Experiment(
        ImagesConfig(name="fashion_mnist", root=None, num_valid=10_000, split_seed=0),
        channels=4,
        layers=3,
    ),
}


def reference_of(experiment: Experiment, num_genotypes: int) -> ReferenceSample:
    """The reference sample of an experiment, with its first genotypes."""
    images, split = load_split_images(experiment.images)
    probe = choose_probe(images.train_images, split.train, NUM_IMAGES, seed=PROBE_SEED)
    spec = NetworkSpec(
        channels=experiment.channels,
        layers=experiment.layers,
        num_classes=images.num_classes,
        input_channels=probe.pixels.shape[1],
        image_size=probe.pixels.shape[2],
    )
    return draw_reference(
        spec,
        probe_tensor(probe, images.mean, images.std),
        probe.sha256,
        num_genotypes,
        seed=GENOTYPE_SEED,
    )


if __name__ == "__main__":
    set_up_torch(threads=1, deterministic=True)
    samples = {name: reference_of(each, NUM_GENOTYPES) for name, each in EXPERIMENTS.items()}
    print(to_json(samples), end="")
