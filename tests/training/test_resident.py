"""Images come to the device as the split says."""

import numpy as np
import pytest
import torch

from dtb_builder.images import Images, Split, stratified_split
from dtb_builder.training.resident import make_resident


def test_each_image_is_in_its_part_with_its_label(images: Images) -> None:
    split = stratified_split(images.train_labels, 13, seed=1)
    data = make_resident(images, split, "cpu")
    assert torch.equal(data.train.images, torch.tensor(images.train_images[split.train]))
    assert torch.equal(data.train.labels, torch.tensor(images.train_labels[split.train]))
    assert torch.equal(data.valid.images, torch.tensor(images.train_images[split.valid]))
    assert torch.equal(data.valid.labels, torch.tensor(images.train_labels[split.valid]))
    assert torch.equal(data.test.images, torch.tensor(images.test_images))
    assert (len(data.train), len(data.valid), len(data.test)) == (47, 13, 20)


def test_the_device_has_its_own_copy(images: Images) -> None:
    split = Split(train=np.arange(50), valid=np.arange(50, 60))
    data = make_resident(images, split, "cpu")
    data.test.images.zero_()
    assert images.test_images.any()


def test_images_that_cannot_be_written_are_copied_without_a_warning(images: Images) -> None:
    images.test_images.setflags(write=False)
    split = Split(train=np.arange(50), valid=np.arange(50, 60))
    assert len(make_resident(images, split, "cpu").test) == 20


def test_a_split_of_other_images_is_refused(images: Images) -> None:
    split = Split(train=np.arange(50), valid=np.arange(50, 61))
    with pytest.raises(ValueError, match="split must be of 60 training images, got an index 60"):
        make_resident(images, split, "cpu")
