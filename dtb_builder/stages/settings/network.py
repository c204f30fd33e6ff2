"""How genotypes are grown into networks, as checked settings."""

from dataclasses import dataclass

from dtb_builder.errors import ConfigError, ImagesError
from dtb_builder.images.image_set import Images
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.training.recipe import Recipe

__all__ = ["NetworkConfig", "check_auxiliary", "network_spec"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """How every genotype is grown into a network; checked further once the images are known."""

    channels: int
    layers: int
    auxiliary: bool


def check_auxiliary(recipe: Recipe, network: NetworkConfig) -> None:
    """See that an auxiliary loss has its head.

    Raises:
        ValueError: it has not.
    """
    if recipe.auxiliary_weight > 0 and not network.auxiliary:
        raise ValueError(
            "recipe.auxiliary_weight needs network.auxiliary, which network=darts has; it is 0 "
            "without"
        )


def network_spec(network: NetworkConfig, images: Images) -> NetworkSpec:
    """How a config's networks are grown for its images.

    Raises:
        ConfigError: they cannot be.
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
