"""A predictor of the accuracy of a network from nothing but the distribution of its weights.

python examples/accuracy_predictor.py [dtb.h5]
"""

import sys

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from dtb_builder import Benchmark
from dtb_builder.adapters.torch_states import PaddedStates, StateDataset, padded


def features(batch: PaddedStates) -> Tensor:
    """Quantiles and logarithmic size of each state, whatever its length."""
    levels = torch.linspace(0, 1, 33)
    vectors = [state[:length] for state, length in zip(batch.states, batch.lengths, strict=True)]
    quantiles = torch.stack([vector.quantile(levels) for vector in vectors])
    return torch.cat([quantiles, batch.lengths.log()[:, None]], dim=1)


def trained_predictor(dataset: StateDataset, known: list[int], *, num_epochs: int) -> nn.Module:
    """A small network that was trained on some states of a dataset."""
    torch.manual_seed(0)
    predictor = nn.Sequential(nn.BatchNorm1d(34), nn.Linear(34, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=0.01)
    loader = DataLoader(Subset(dataset, known), batch_size=16, shuffle=True, collate_fn=padded)
    batches = [(features(batch), batch.targets) for batch in loader]
    for _ in range(num_epochs):
        for inputs, targets in batches:
            loss = nn.functional.mse_loss(predictor(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return predictor.eval()


if __name__ == "__main__":
    with Benchmark(sys.argv[1]) if len(sys.argv) > 1 else Benchmark.example() as benchmark:
        states = StateDataset(benchmark, targets=("test_accuracy",), target_epoch=None)
        half = [i for i in range(len(states)) if states[i].run % 4 < 2]
        rest = [i for i in range(len(states)) if i not in half]
        predict = trained_predictor(states, half, num_epochs=200)
        test = padded([states[i] for i in rest])
        pairs = torch.stack([predict(features(test))[:, 0].detach(), test.targets[:, 0]])
        print(f"correlation on {len(rest)} states of other runs: {pairs.corrcoef()[0, 1]:.2f}")
