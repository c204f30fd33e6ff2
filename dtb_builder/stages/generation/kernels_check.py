"""Compare the compiled passes of a GPU with the modules, once per GPU model and driver."""

import json
from hashlib import sha256
from pathlib import Path

import torch

from dtb_builder.dataset.atomic import write_whole
from dtb_builder.errors import ConfigError
from dtb_builder.network import kernels
from dtb_builder.network.comparison import BOUNDS, differences_from_modules
from dtb_builder.network.kernels import AnyLibrary
from dtb_builder.training import ComputeConfig
from dtb_builder.training.kernels import library_of

__all__ = ["check_kernels"]

_DRIVER = Path("/proc/driver/nvidia/version")


def check_kernels(compute: ComputeConfig, folder: Path) -> None:
    """Compare the passes of this process's GPU with the modules, once per model and driver.

    Args:
        compute: the process's settings. On a CPU nothing is compared, because the tests of this
            package run the same instructions.
        folder: the folder of passed comparisons, with a file for each.

    Raises:
        ConfigError: the results differ by more than BOUNDS.
    """
    if compute.device == "cuda" and (library := library_of(compute)) is not None:
        driver = _DRIVER.read_text().split("\n")[0] if _DRIVER.exists() else "unknown driver"
        check_once(library, f"{torch.cuda.get_device_name()}, {driver}", folder)


def check_once(library: AnyLibrary, device: str, folder: Path) -> None:
    """Compare the passes of a device, which is described by a text, once."""
    about = {"device": device, "passes": library.name, "torch": str(torch.__version__)}
    about["sources"] = _sources()
    file = folder / f"{sha256(json.dumps(about).encode()).hexdigest()[:16]}.json"
    if file.exists():
        return
    found = differences_from_modules(library)
    if any(found[name] > bound for name, bound in BOUNDS.items()):
        said = ", ".join(
            f"{name} by {found[name]:.1e} ({BOUNDS[name]:.0e} at most)" for name in found
        )
        raise ConfigError(
            f"the compiled passes are not to be trusted on {device}, torch {torch.__version__}: "
            f"relative to the modules they differ in {said}; plan with compute.kernels=off"
        )
    folder.mkdir(exist_ok=True)
    write_whole(file, json.dumps({**about, **found}, indent=2).encode())


def _sources() -> str:
    """The hash of the passes' code."""
    folder = Path(kernels.__file__).parent
    files = sorted(file for end in ("cu", "py") for file in folder.glob(f"*.{end}"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
