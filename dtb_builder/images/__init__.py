"""Image sets as numpy arrays, and their split into train and valid; needs no torch."""

from dtb_builder.images.image_set import Images
from dtb_builder.images.loaders import IMAGE_SETS, load_images
from dtb_builder.images.splits import Split, stratified_split

__all__ = ["IMAGE_SETS", "Images", "Split", "load_images", "stratified_split"]
