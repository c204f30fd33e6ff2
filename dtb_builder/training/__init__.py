"""The training of one network, epoch by epoch; modules that need torch are imported one by one.

`loop` trains, `evaluation` evaluates, `resume` has the checkpoints, `resident` the images on their
device; `setup` and `machine` set up torch, `kernels` decides whether compiled passes are used.
"""

from dtb_builder.training.compute import ComputeConfig
from dtb_builder.training.environment import environment
from dtb_builder.training.recipe import Precision, Recipe

__all__ = ["ComputeConfig", "Precision", "Recipe", "environment"]
