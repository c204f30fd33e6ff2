"""Make the reference samples of DAS that come with the package.

    python -m dtb_builder.stages.scoring.das_reference > dtb_builder/scores/references.json

The file must not change, because it decides DAS. Another processor changes a few activation codes
and thus the last digits.
"""

from dtb_builder.images.settings import ImagesConfig, load_split_images
from dtb_builder.scores import ReferenceSample, choose_probe
from dtb_builder.scores.drawing import draw_reference
from dtb_builder.scores.probed import probe_tensor
from dtb_builder.scores.reference import GENOTYPE_SEED, to_json
from dtb_builder.stages.settings.conf import read_conf
from dtb_builder.stages.settings.network import NetworkConfig, network_spec
from dtb_builder.training.setup import set_up_torch

__all__ = ["EXPERIMENTS", "reference_of", "settings_of"]

NUM_IMAGES = 128
PROBE_SEED = 0
NUM_GENOTYPES = 200


EXPERIMENTS = ("quickstart", "fashion_small")
"""The experiments of conf/experiment that have a reference sample."""


def settings_of(experiment: str) -> tuple[ImagesConfig, NetworkConfig]:
    """The settings of an experiment that decide its reference sample."""
    settings = read_conf(f"experiment/{experiment}")
    images = {key: name for line in settings["defaults"] for key, name in line.items()}
    return (
        ImagesConfig(**read_conf(f"images/{images['override /images']}")),
        NetworkConfig(**(read_conf("network/small") | settings["network"])),
    )


def reference_of(experiment: str, num_genotypes: int) -> ReferenceSample:
    """The reference sample of an experiment, with the first `num_genotypes` genotypes."""
    images_config, network = settings_of(experiment)
    images, split = load_split_images(images_config)
    probe = choose_probe(images.train_images, split.train, NUM_IMAGES, seed=PROBE_SEED)
    return draw_reference(
        network_spec(network, images),
        probe_tensor(probe, images.mean, images.std),
        probe.sha256,
        num_genotypes,
        seed=GENOTYPE_SEED,
    )


if __name__ == "__main__":
    set_up_torch(threads=1, deterministic=True)
    print(to_json({name: reference_of(name, NUM_GENOTYPES) for name in EXPERIMENTS}), end="")
