"""Set up torch on a worker's machine, if it has the device of the config."""

import socket
from dataclasses import replace

import torch

from dtb_builder.errors import ConfigError
from dtb_builder.training.compute import ComputeConfig
from dtb_builder.training.setup import set_up_torch

__all__ = ["set_up_machine", "set_up_machine_or_cpu"]


def set_up_machine(compute: ComputeConfig) -> None:
    """Set up torch in this process as a config says.

    Raises:
        ConfigError: the device is cuda, but torch sees no GPU here.
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"compute.device is cuda, but torch {torch.__version__} sees no GPU on "
            f"{socket.gethostname()}"
        )
    set_up_torch(threads=compute.threads, deterministic=compute.deterministic)


def set_up_machine_or_cpu(compute: ComputeConfig) -> ComputeConfig:
    """The same, on the CPU where a config says cuda and there is no GPU; returns what it did."""
    if not torch.cuda.is_available():
        compute = replace(compute, device="cpu")
    set_up_machine(compute)
    return compute
