"""The hardware and software that decide the bits of a training, besides config and seeds."""

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["environment"]


def environment(
    device: "torch.device | str", *, kernels: str | None = None
) -> dict[str, str | int]:
    """The kind of machine and the versions of its software; no name of a host or a person.

    Entries that do not apply, such as CUDA's version on a CPU, are absent.

    Args:
        device: the device of the training.
        kernels: the instruction set of the compiled passes, if they are used.
    """
    import torch

    device = torch.device(device)
    facts: dict[str, str | int] = {
        "device": device.type,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": int(torch.backends.mkldnn.is_available()),
        "threads": torch.get_num_threads(),
        "deterministic": int(torch.are_deterministic_algorithms_enabled()),
    }
    if kernels is not None:
        facts["kernels"] = kernels
    if device.type == "cuda":
        facts["device_name"] = torch.cuda.get_device_name(device)
        facts["cuda"] = str(torch.version.cuda)
        facts["cudnn"] = int(torch.backends.cudnn.version() or 0)
    else:
        facts["device_name"] = _cpu_name()
    return facts


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
