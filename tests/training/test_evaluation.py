"""An evaluation is a plain mean over all images, and leaves no trace."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from dtb_builder.training.evaluation import EVALUATION_BATCH, evaluate
from dtb_builder.training.resident import LabelledImages, ResidentImages


@pytest.mark.parametrize("num_images", [1, EVALUATION_BATCH, 2 * EVALUATION_BATCH + 3])
def test_loss_and_accuracy_are_those_of_a_loop_over_single_images(
    make_network: Callable[[], nn.Module], data: ResidentImages, num_images: int
) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (num_images, 3, 8, 8)).astype(np.uint8)
    labels = rng.integers(0, 4, num_images)
    network = make_network()

    got = evaluate(network, LabelledImages(torch.tensor(pixels), torch.tensor(labels)), data)

    losses, hits = [], []
    network.eval()
    for image, label in zip(pixels, labels, strict=True):
        normal = (image / 255 - data.mean.numpy()[:, None, None]) / data.std.numpy()[:, None, None]
        with torch.no_grad():
            logits = network(torch.tensor(normal[None]).float())[0].double().numpy()
        losses.append(math.log(np.exp(logits).sum()) - logits[label])
        hits.append(logits.argmax() == label)
    assert got.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert got.accuracy == np.mean(hits)


def test_each_module_keeps_its_mode(
    make_network: Callable[[], nn.Module], data: ResidentImages
) -> None:
    network = make_network().train()
    network.get_submodule("stem_norm").eval()
    evaluate(network, data.valid, data)
    modes = {name: module.training for name, module in network.named_modules()}
    assert [name for name, training in modes.items() if not training] == ["stem_norm"]


def test_modes_are_restored_after_an_error(
    make_network: Callable[[], nn.Module], data: ResidentImages
) -> None:
    network = make_network().train()
    with pytest.raises(RuntimeError):
        evaluate(network, LabelledImages(data.valid.images[:, :1], data.valid.labels), data)
    assert all(module.training for module in network.modules())


def test_nothing_in_the_network_changes(
    make_network: Callable[[], nn.Module], data: ResidentImages
) -> None:
    network = make_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate(network, data.valid, data)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_bfloat16_gives_nearly_the_same_loss(
    make_network: Callable[[], nn.Module], data: ResidentImages
) -> None:
    network = make_network()
    exact = evaluate(network, data.valid, data)
    rounded = evaluate(network, data.valid, data, precision="bfloat16")
    assert rounded.loss != exact.loss
    assert rounded.loss == pytest.approx(exact.loss, rel=0.02)
