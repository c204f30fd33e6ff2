from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dtb_builder import Benchmark
from dtb_builder.adapters.torch_states import PaddedStates, StateDataset, padded


@pytest.fixture(scope="module")
def bench() -> Iterator[Benchmark]:
    with Benchmark.example() as bench:
        yield bench


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_what_this_process_reads(start: str, bench: Benchmark) -> None:
    dataset = StateDataset(bench, epochs=[0, 1], targets=("test_accuracy", "valid_loss"))
    loader = DataLoader(
        dataset, batch_size=9, num_workers=1, multiprocessing_context=start, collate_fn=padded
    )
    batches: list[PaddedStates] = list(loader)
    assert [len(batch.states) for batch in batches] == [9, 9, 6]
    batch = batches[1]
    assert batch.states.shape == (9, int(batch.lengths.max()))
    assert len(set(batch.lengths.tolist())) > 1
    for i, (number, step) in enumerate(zip(batch.runs.tolist(), batch.steps.tolist(), strict=True)):
        run, length = bench.run(number), int(batch.lengths[i])
        state = torch.from_numpy(run.training_state(step=step).values)
        assert torch.equal(batch.states[i, :length], state)
        assert not batch.states[i, length:].any()
        metrics = [run.metric(name, epoch=-1) for name in ("test_accuracy", "valid_loss")]
        assert batch.targets[i].tolist() == np.array(metrics, np.float32).tolist()


def test_named_tensors_make_a_state_dict(bench: Benchmark) -> None:
    dataset = StateDataset(bench, epochs=[-1], named=True)
    item = dataset[3]
    assert isinstance(item.state, dict)
    network = bench.run(item.run).network(epoch=0)
    assert network.load_state_dict(item.state, strict=False).unexpected_keys == []
    weights = network.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in item.state.items())
    with pytest.raises(TypeError, match="named tensors cannot be padded"):
        padded([item])


def test_a_state_without_its_target_is_left_out(bench: Benchmark) -> None:
    """Nothing is trained at epoch 0."""
    assert len(StateDataset(bench, targets=("train_loss",), target_epoch=0)) == 0
    assert len(StateDataset(bench, targets=("train_loss",), target_epoch=1)) == 72
