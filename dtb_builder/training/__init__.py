"""The training of one network, epoch by epoch; what needs torch is imported from its module.

`loop` trains, `evaluation` evaluates, `resume` has checkpoints, `resident` images on their device;
`setup` and `machine` set up torch, `kernels` settles whether compiled passes are used.
"""

from dtb_builder.training.compute import ComputeConfig
from dtb_builder.training.environment import environment
from dtb_builder.training.recipe import Precision, Recipe

__all__ = ["ComputeConfig", "Precision", "Recipe", "environment"]
