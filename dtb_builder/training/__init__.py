"""Training of any torch module, epoch by epoch; knows no genotype and no file format."""

from dtb_builder.training.environment import environment
from dtb_builder.training.evaluation import EVALUATION_BATCH, Evaluation, evaluate
from dtb_builder.training.finished import FinishedEpoch
from dtb_builder.training.images import Images
from dtb_builder.training.loaders import IMAGE_SETS, load_images
from dtb_builder.training.loop import train
from dtb_builder.training.recipe import RECIPES, Precision, Recipe
from dtb_builder.training.resident import LabelledImages, ResidentImages, make_resident
from dtb_builder.training.resume import Checkpoint
from dtb_builder.training.setup import set_up_torch
from dtb_builder.training.splits import Split, stratified_split

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
