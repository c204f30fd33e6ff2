"""The machine of a worker: whether it has what a config wants, and torch set up for it."""

import socket

import torch

from dtb_builder.errors import ConfigError
from dtb_builder.training.compute import ComputeConfig
from dtb_builder.training.setup import set_up_torch

__all__ = ["set_up_machine"]


def set_up_machine(compute: ComputeConfig) -> None:
    """Have this process compute as a config says.

    Raises:
        ConfigError: it says cuda, and torch sees no GPU here.
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"compute.device is cuda, but torch {torch.__version__} sees no GPU on "
            f"{socket.gethostname()}"
        )
    set_up_torch(threads=compute.threads, deterministic=compute.deterministic)
