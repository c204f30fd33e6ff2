"""On networks small enough to differentiate by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from dtb_builder import errors
from dtb_builder.network import NetworkSpec
from dtb_builder.scores.gradients import fisher, gradient_norm, grasp, plain, snip, zico
from dtb_builder.scores.graph import Graph, layers_of, weights_of
from dtb_builder.scores.probed import probed_copy
from dtb_builder.space import NAMED, sample_uniform

LABELS = torch.tensor([0, 1])
IMAGES = torch.tensor([[1.0, 2.0], [3.0, -1.0]])


def linear(weight: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


def test_at_equal_logits_the_gradient_is_the_difference_of_classes() -> None:
    # Softmax is 1/2 everywhere, so dL/dW = mean over images of (1/2 - is label) x.
    gradient = ((1 - 2 * torch.nn.functional.one_hot(LABELS)) / 2).T.float() @ IMAGES / 2
    zero, one = linear([[0, 0], [0, 0]]), linear([[1, 1], [1, 1]])
    for network in (zero, one):
        norm = gradient_norm(Graph(network, IMAGES, LABELS))
        assert norm == pytest.approx(float(gradient.norm()))
    assert snip(Graph(zero, IMAGES, LABELS)) == 0
    assert snip(Graph(one, IMAGES, LABELS)) == pytest.approx(float(gradient.abs().sum()))


def test_each_layer_adds_its_own_norm() -> None:
    # Through the identity the second layer sees the images; the first gets W2^T of its error.
    first, second = linear([[1, 0], [0, 1]]), linear([[2, 2], [2, 2]])
    network = nn.Sequential(first, second)
    error = ((1 - 2 * torch.nn.functional.one_hot(LABELS)) / 4).float()
    expected = (error.T @ IMAGES).norm() + (second.weight.T @ error.T @ IMAGES).norm()
    assert gradient_norm(Graph(network, IMAGES, LABELS)) == pytest.approx(float(expected.detach()))


def test_snip_is_the_same_when_a_relu_networks_layers_are_rescaled_against_each_other() -> None:
    torch.manual_seed(0)
    first, last = nn.Linear(2, 5, bias=False), nn.Linear(5, 2, bias=False)
    network = nn.Sequential(first, nn.ReLU(), last)
    before = snip(Graph(network, IMAGES, LABELS))
    with torch.no_grad():
        first.weight.mul_(4)
        last.weight.div_(4)
    assert snip(Graph(network, IMAGES, LABELS)) == pytest.approx(before, rel=1e-5)


def test_snip_is_the_gradient_by_masks_of_ones() -> None:
    """So the released codes define it; in float32, one rounding may decide whether a unit fires."""
    for i in range(5):
        spec = NetworkSpec(channels=2, layers=3, num_classes=2, image_size=8)
        network = spec.build(sample_uniform(0, i)).double()
        images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
        labels = torch.arange(4) % 2
        masked = probed_copy(network)
        masks = []
        for layer in layers_of(masked):
            weight = layer.get_parameter("weight").detach()
            masks.append(torch.ones_like(weight, requires_grad=True))
            del layer.weight
            layer.weight = weight * masks[-1]
        loss = nn.functional.cross_entropy(masked(images), labels)
        expected = sum(float(each.abs().sum()) for each in torch.autograd.grad(loss, masks))
        assert snip(Graph(network, images, labels)) == pytest.approx(expected, rel=1e-12)


def batch(scale: float) -> tuple[Tensor, Tensor]:
    return torch.tensor([[1.0, 2.0]]) * scale, torch.tensor([0])


def test_zico_is_the_logarithm_of_the_summed_inverse_coefficients_of_variation() -> None:
    # With zero weights |g| is |x| / 2: for scales 1 and 3 the mean is 2 and the deviation 1.
    network = linear([[0, 0], [0, 0]])
    assert zico(network, [batch(1), batch(3)]) == pytest.approx(math.log(4 * 2))


def test_zico_takes_the_deviation_of_the_gradients_size() -> None:
    # Of opposite signs and equal size, so no weight varies.
    network = linear([[0, 0], [0, 0]])
    with pytest.raises(ValueError, match="gradients that differ between batches, got the same in"):
        zico(network, [batch(1), batch(-1)])


def test_zico_does_not_depend_on_the_scale_of_the_images_at_zero_weights() -> None:
    network = linear([[0, 0], [0, 0]])
    small, large = (zico(network, [batch(s), batch(2 * s)]) for s in (1, 10))
    assert small == pytest.approx(large)


def test_zico_needs_two_batches() -> None:
    with pytest.raises(ValueError, match="ZiCo needs at least 2 batches, got 1"):
        zico(linear([[0, 0]]), [batch(1)])


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    with pytest.raises(errors.DivergedError, match="a gradient is not finite; the loss is nan"):
        gradient_norm(Graph(linear([[float("nan"), 0], [0, 0]]), IMAGES, LABELS))


def test_the_auxiliary_head_and_batch_norms_have_no_weights_here() -> None:
    spec = NetworkSpec(channels=4, layers=3, num_classes=10, image_size=32)
    headless = spec.build(NAMED["DARTS_V2"])
    with_head = NetworkSpec(**(spec.__dict__ | {"auxiliary": True})).build(NAMED["DARTS_V2"])
    with_head.load_state_dict(headless.state_dict(), strict=False)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    assert snip(Graph(with_head, images, labels)) == snip(Graph(headless, images, labels))
    assert all(weight.ndim > 1 for weight in weights_of(headless))


def test_plain_is_what_snip_is_without_the_sizes() -> None:
    one = Graph(linear([[1, 1], [1, 1]]), IMAGES, LABELS)
    gradient = ((1 - 2 * torch.nn.functional.one_hot(LABELS)) / 4).T.float() @ IMAGES
    assert plain(one) == pytest.approx(float(gradient.sum()), abs=1e-6)
    assert abs(plain(one)) <= snip(one)


def test_grasp_is_minus_the_weights_times_the_hessian_times_the_gradient() -> None:
    torch.manual_seed(1)
    network = nn.Linear(2, 2, bias=False)

    def loss(weight: Tensor) -> Tensor:
        return nn.functional.cross_entropy(IMAGES @ weight.T, LABELS)

    weight = network.weight.detach()
    hessian = torch.as_tensor(torch.autograd.functional.hessian(loss, weight)).reshape(4, 4)
    (gradient,) = torch.autograd.grad(loss(network.weight), network.weight)
    expected = -float(weight.reshape(4) @ hessian @ gradient.reshape(4))
    assert grasp(Graph(network, IMAGES, LABELS, twice=True)) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="wanted a graph made with twice=True"):
        grasp(Graph(network, IMAGES, LABELS))


def test_fisher_by_hand() -> None:
    # Logits are w x and their gradients (softmax - is label) / 2, at zero weights -1/4 or 1/4.
    network = linear([[2, 0], [2, 0]])
    logits = IMAGES @ torch.tensor([[2.0, 0], [2, 0]]).T
    gradients = (0.5 - nn.functional.one_hot(LABELS).float()) / 2
    channels = (logits * gradients).square().mean(0) / 2
    expected = 2 * float(channels.sum())  # two weights for each channel
    assert fisher(Graph(network, IMAGES, LABELS)) == pytest.approx(expected)


def test_a_layers_calls_all_count_for_fisher() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(2, 2, bias=False)
    once = fisher(Graph(nn.Sequential(layer), IMAGES, LABELS))
    twice = Graph(nn.Sequential(layer, layer), IMAGES, LABELS)
    assert len(twice.outputs) == 2
    assert fisher(twice) > 0 < once
