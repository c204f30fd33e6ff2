"""The recipes of conf/ that tests train with."""

from dtb_builder.stages.settings.conf import read_conf
from dtb_builder.training import Recipe

__all__ = ["RECIPES"]

RECIPES = {name: Recipe(**read_conf(f"recipe/{name}")) for name in ("darts", "nb301", "smoke")}
