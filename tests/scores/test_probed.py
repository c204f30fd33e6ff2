import copy

import torch
from torch import Tensor, nn

from dtb_builder.network import NetworkSpec
from dtb_builder.network.network import Network
from dtb_builder.scores.ability import wot
from dtb_builder.scores.activations import network_agreement, visit_activations
from dtb_builder.scores.gradients import gradient_norm, snip, zico
from dtb_builder.scores.graph import Graph
from dtb_builder.scores.jacobian import jacob_cov
from dtb_builder.scores.probed import copied, probed_copy
from dtb_builder.scores.size import multiply_accumulates
from dtb_builder.scores.swap import swap
from dtb_builder.scores.synflow import synflow
from dtb_builder.scores.zen import zen
from dtb_builder.space import NAMED

SPEC = NetworkSpec(channels=4, layers=3, num_classes=10, image_size=32, auxiliary=True)
IMAGES = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8)


def trained_network() -> Network:
    """A network in training mode, with gradients, hooks and statistics of its own."""
    network = SPEC.build(NAMED["DARTS_V2"]).train()
    network.set_drop_path(0.5)
    network.stem.register_forward_hook(lambda *_: None)
    logits, _ = network(IMAGES)
    logits.sum().backward()
    return network


def hooks(network: nn.Module) -> list[int]:
    return [
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()
    ]


def test_no_score_changes_the_network() -> None:
    network = trained_network()
    before = copy.deepcopy(network.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    modes = [module.training for module in network.modules()]
    num_hooks = hooks(network)
    random_state = torch.get_rng_state()

    network_agreement(network, IMAGES)
    swap(network, IMAGES)
    gradient_norm(Graph(network, IMAGES, LABELS))
    snip(Graph(network, IMAGES, LABELS))
    zico(network, [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])])
    jacob_cov(Graph(network, IMAGES))
    synflow(network, (3, 32, 32))
    zen(network, (4, 3, 32, 32), torch.Generator(), features="cells.2")
    multiply_accumulates(network, (3, 32, 32))

    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        if gradient is None or parameter.grad is None:
            assert parameter.grad is gradient
        else:
            assert torch.equal(parameter.grad, gradient)
    assert [module.training for module in network.modules()] == modes
    assert hooks(network) == num_hooks
    assert IMAGES.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)


def test_drop_path_and_the_auxiliary_head_have_no_part_in_a_score() -> None:
    network = trained_network()
    plain = copy.deepcopy(network).eval()
    plain.set_drop_path(0)
    plain.auxiliary_head = None
    assert wot(network_agreement(network, IMAGES)) == wot(network_agreement(plain, IMAGES))


def test_batch_norms_use_the_statistics_of_the_batch() -> None:
    network = trained_network()
    before = wot(network_agreement(network, IMAGES))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_()
    assert wot(network_agreement(network, IMAGES)) == before


def test_autocast_around_a_score_has_no_part_in_it() -> None:
    network = trained_network()
    outside = network_agreement(network, IMAGES), gradient_norm(Graph(network, IMAGES, LABELS))
    with torch.autocast("cpu", torch.bfloat16):
        inside = network_agreement(network, IMAGES), gradient_norm(Graph(network, IMAGES, LABELS))
    assert (inside[0].counts == outside[0].counts).all()
    assert inside[1] == outside[1]


def test_scores_can_be_had_where_gradients_are_off_and_leave_none() -> None:
    network = trained_network()
    expected = snip(Graph(network, IMAGES, LABELS))
    with torch.no_grad():
        assert snip(Graph(network, IMAGES, LABELS)) == expected

    def has_no_graph(fires: Tensor) -> None:
        assert not fires.requires_grad

    visit_activations(network, IMAGES, has_no_graph)


def test_a_copy_equals_the_network_and_shares_no_memory_with_it() -> None:
    shared = nn.BatchNorm2d(3)
    network = nn.Sequential(nn.Conv2d(3, 3, 3), shared, nn.Sequential(), shared)
    shared.register_module("absent", None)

    def doubled(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return 2 * output

    plain = network.eval()(IMAGES)
    shared.register_forward_hook(doubled)
    twin = copied(network)
    assert len(list(twin.modules())) == len(list(network.modules()))
    assert torch.equal(twin(IMAGES), network(IMAGES))
    assert not torch.equal(twin(IMAGES), plain)
    theirs = twin.state_dict()
    assert theirs.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(theirs[name], tensor)
        assert theirs[name].data_ptr() != tensor.data_ptr()


def test_a_copy_has_no_gradients() -> None:
    assert all(p.grad is None for p in probed_copy(trained_network()).parameters())
