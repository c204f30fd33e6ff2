"""Capturing and restoring a state loses no bit, whatever the memory format."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dtb_builder.network import NetworkSpec
from dtb_builder.network.network import Network
from dtb_builder.network.state import capture, restore, tensor_table
from dtb_builder.record import TrainingState
from dtb_builder.space import NAMED, sample_uniform

SPEC = NetworkSpec(channels=4, layers=3, num_classes=10, image_size=32, auxiliary=True)
FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])


def in_format(network: Network, memory_format: torch.memory_format) -> Network:
    """The network in a memory format, which torch's type stub does not know as an argument."""
    return network.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]


def network_of(memory_format: torch.memory_format, seed: int = 0) -> Network:
    """A network that has seen one batch, so that no statistic has its initial value."""
    torch.manual_seed(seed)
    network = in_format(SPEC.build(NAMED["DARTS_V2"]), memory_format)
    network(torch.randn(4, 3, 32, 32).to(memory_format=memory_format))
    return network


@FORMATS
def test_a_captured_tensor_stands_where_the_table_says(memory_format: torch.memory_format) -> None:
    network = network_of(memory_format)
    state = capture(network)
    tensors = tensor_table(network).unpack(state.values)
    expected = {
        name: tensor.numpy()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert list(tensors) == list(expected)
    assert all(np.array_equal(tensors[name], expected[name]) for name in expected)
    assert state.num_batches_tracked == 1


@FORMATS
def test_a_restored_network_gives_the_same_logits_bit_for_bit(
    memory_format: torch.memory_format,
) -> None:
    network, other = network_of(memory_format, seed=1).eval(), network_of(memory_format, seed=2)
    restore(other, capture(network))
    images = torch.randn(4, 3, 32, 32).to(memory_format=memory_format)
    assert torch.equal(other.eval()(images), network(images))


@settings(max_examples=10, deadline=None)
@given(
    index=st.integers(0, 10**6),
    bits=st.integers(0, 2**32 - 1),
    num_batches_tracked=st.integers(0, 2**40),
    memory_format=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_a_state_survives_restore_and_capture_bit_for_bit(
    index: int, bits: int, num_batches_tracked: int, memory_format: torch.memory_format
) -> None:
    network = in_format(SPEC.build(sample_uniform(seed=0, index=index)), memory_format)
    num_floats = tensor_table(network).num_floats
    words = np.random.default_rng(bits).integers(0, 2**32, num_floats, dtype=np.uint32)
    words[:1] = bits
    restore(network, TrainingState(words.view(np.float32), num_batches_tracked))
    state = capture(network)
    assert np.array_equal(state.values.view(np.uint32), words)
    assert state.num_batches_tracked == num_batches_tracked


def test_the_memory_format_does_not_show_in_a_state() -> None:
    network = SPEC.build(NAMED["DARTS_V2"])
    before = capture(network).values
    in_format(network, torch.channels_last)
    assert np.array_equal(capture(network).values, before)


def test_restoring_keeps_the_memory_format() -> None:
    network = network_of(torch.channels_last)
    restore(network, capture(SPEC.build(NAMED["DARTS_V2"])))
    assert all(
        tensor.is_contiguous(memory_format=torch.channels_last)
        for tensor in network.state_dict().values()
        if tensor.ndim == 4
    )


@pytest.mark.parametrize("module", [nn.Linear(3, 2), nn.Linear(3, 2, bias=False)])
def test_a_state_is_a_copy(module: nn.Linear) -> None:
    state = capture(module)
    before = state.values.copy()
    nn.init.zeros_(module.weight)
    assert np.array_equal(state.values, before)


def test_a_state_that_may_not_be_written_can_be_restored() -> None:
    values = np.arange(8, dtype=np.float32)
    values.flags.writeable = False
    linear = nn.Linear(3, 2)
    restore(linear, TrainingState(values, 0))
    assert linear.bias.tolist() == [6, 7]


def test_a_module_without_batch_norm_has_seen_no_batches() -> None:
    assert capture(nn.Linear(3, 2)).num_batches_tracked == 0
    state = TrainingState(np.zeros(8, np.float32), 3)
    with pytest.raises(ValueError, match="a network without batch norm counts 0 batches, got 3"):
        restore(nn.Linear(3, 2), state)


@pytest.mark.parametrize("size", [0, 7, 9])
def test_a_state_of_another_size_is_refused(size: int) -> None:
    state = TrainingState(np.zeros(size, np.float32), 0)
    with pytest.raises(ValueError, match=f"expected a state of 8 floats, got {size}"):
        restore(nn.Linear(3, 2), state)


def test_a_tensor_of_another_type_is_refused() -> None:
    for module in (nn.Linear(3, 2).double(), nn.Linear(3, 2).bfloat16()):
        with pytest.raises(ValueError, match="weight must be float32, got torch"):
            capture(module)


def test_batch_norms_that_counted_differently_are_refused() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    module[1](torch.randn(4, 2))
    with pytest.raises(ValueError, match=r"got 0 in 0\.num_batches_tracked and 1 in 1\.num_"):
        capture(module)


def test_a_module_without_tensors_is_refused() -> None:
    with pytest.raises(ValueError, match="ReLU has no tensors"):
        capture(nn.ReLU())


def test_a_state_has_every_tensor_but_the_counters() -> None:
    names = tensor_table(network_of(torch.contiguous_format)).names
    assert names[:5] == (
        "stem.0.weight",
        "stem.1.weight",
        "stem.1.bias",
        "stem.1.running_mean",
        "stem.1.running_var",
    )
    assert not any("num_batches_tracked" in name for name in names)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_state_captured_on_the_gpu_equals_that_of_the_cpu() -> None:
    network = network_of(torch.channels_last)
    on_cpu = capture(network)
    on_gpu = capture(network.cuda())
    assert np.array_equal(on_gpu.values, on_cpu.values)
    assert on_gpu.num_batches_tracked == on_cpu.num_batches_tracked
    restore(network, on_cpu)
    assert np.array_equal(capture(network).values, on_cpu.values)
