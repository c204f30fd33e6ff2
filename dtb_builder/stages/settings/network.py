"""The size of the networks, as checked settings."""

from dataclasses import dataclass

from dtb_builder.errors import ConfigError, ImagesError
from dtb_builder.images.image_set import Images
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.training.recipe import Recipe

__all__ = ["NetworkConfig", "check_auxiliary", "network_spec"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The size of every network; `network_spec` checks it against the images."""

    channels: int
    layers: int
    auxiliary: bool


def check_auxiliary(recipe: Recipe, network: NetworkConfig) -> None:
    """Check that a recipe with an auxiliary loss has a network with an auxiliary head.

    Raises:
        ValueError: the head is missing.
    """
    if recipe.auxiliary_weight > 0 and not network.auxiliary:
        raise ValueError(
            "recipe.auxiliary_weight needs network.auxiliary=true, as in network=darts; without an "
            "auxiliary head it must be 0"
        )


def network_spec(network: NetworkConfig, images: Images) -> NetworkSpec:
    """The spec of a config's networks for its images.

    Raises:
        ImagesError: the images are not square.
        ConfigError: such networks cannot take these images.
    """
    _, channels, height, width = images.train_images.shape
    if height != width:
        raise ImagesError(f"{images.name}: images must be square, got {height} x {width} pixels")
    try:
        return NetworkSpec(
            channels=network.channels,
            layers=network.layers,
            num_classes=images.num_classes,
            input_channels=channels,
            image_size=height,
            auxiliary=network.auxiliary,
        )
    except ValueError as error:
        raise ConfigError(f"network, for images {images.name}: {error}") from error
