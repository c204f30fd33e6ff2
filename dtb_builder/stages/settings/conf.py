"""Read a single file of ``conf/``; the command line composes all of them with Hydra."""

from importlib import resources
from typing import Any

import yaml

__all__ = ["read_conf"]


def read_conf(name: str) -> dict[str, Any]:
    """The settings of a file such as ``recipe/darts``."""
    file = resources.files("dtb_builder.conf").joinpath(f"{name}.yaml")
    return yaml.safe_load(file.read_text("utf-8"))
