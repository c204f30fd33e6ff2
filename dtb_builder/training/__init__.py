"""Training of any torch module, epoch by epoch; knows no genotype and no file format.

What needs torch is imported when it is first asked for, so that reading a config needs none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dtb_builder.training.environment import environment
from dtb_builder.training.images import Images
from dtb_builder.training.loaders import IMAGE_SETS, load_images
from dtb_builder.training.recipe import RECIPES, Precision, Recipe
from dtb_builder.training.splits import Split, stratified_split

if TYPE_CHECKING:
    from dtb_builder.training.evaluation import EVALUATION_BATCH, Evaluation, evaluate
    from dtb_builder.training.finished import FinishedEpoch
    from dtb_builder.training.loop import train
    from dtb_builder.training.resident import LabelledImages, ResidentImages, make_resident
    from dtb_builder.training.resume import Checkpoint
    from dtb_builder.training.setup import set_up_torch

__all__ = [
    "EVALUATION_BATCH",
    "IMAGE_SETS",
    "RECIPES",
    "Checkpoint",
    "Evaluation",
    "FinishedEpoch",
    "Images",
    "LabelledImages",
    "Precision",
    "Recipe",
    "ResidentImages",
    "Split",
    "environment",
    "evaluate",
    "load_images",
    "make_resident",
    "set_up_torch",
    "stratified_split",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch."""
    modules = {
        "EVALUATION_BATCH": "evaluation",
        "Checkpoint": "resume",
        "Evaluation": "evaluation",
        "FinishedEpoch": "finished",
        "LabelledImages": "resident",
        "ResidentImages": "resident",
        "evaluate": "evaluation",
        "make_resident": "resident",
        "set_up_torch": "setup",
        "train": "loop",
    }
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{modules[name]}"), name)
