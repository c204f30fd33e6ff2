"""Networks of states that somebody made of stored ones."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from dtb_builder import Benchmark, Run
from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import (
    JournalRun,
    MomentFrames,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.shard import write_shard
from dtb_builder.network import NetworkSpec
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.record import Moment
from dtb_builder.space import sample_uniform

SPEC = NetworkSpec(channels=2, layers=2, num_classes=10, image_size=8, auxiliary=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose two states are two initialisations."""
    folder, genotype = tmp_path_factory.mktemp("own"), sample_uniform(0, 0).canonical()
    networks = [SPEC.build(genotype) for _ in range(2)]
    table = tensor_table(networks[0])
    path = folder / "0.journal"
    open_journal(path, JournalRun(0, str(genotype), 0, 0, "plan", 1, 1, table))
    moments = [Moment(epoch, epoch) for epoch in (0, 1)]
    for moment, network in zip(moments, networks, strict=True):
        append_epoch(
            path,
            epoch=moment.step,
            metrics={},
            environment={"device_name": "abacus"},
            state_crc32c=0,
            moments=[MomentFrames(moment, codec.encode(capture(network).values))],
        )
    provenance = json.dumps({"network": asdict(SPEC)})
    journal = read_journal(path)
    assert journal is not None
    write_shard(folder / "dtb.h5", [journal], provenance=provenance, num_epochs=1, moments=moments)
    return Benchmark(folder / "dtb.h5")[0]


def test_a_stored_state_given_as_ones_own_is_the_same_network(run: Run) -> None:
    images = torch.randn(2, 3, 8, 8)
    logits = run.network(epoch=1)(images)
    for state in (
        run.state(epoch=1),
        run.network(epoch=1).state_dict(),
        run.training_state(epoch=1).values,
    ):
        assert torch.equal(run.network(state=state)(images), logits)


def test_an_average_of_states_is_a_network(run: Run) -> None:
    mean = np.mean([run.training_state(epoch=epoch).values for epoch in (0, 1)], axis=0)
    weight = run.network(state=mean).classifier.weight.detach().numpy()
    ends = [run.state(epoch=epoch)["classifier.weight"] for epoch in (0, 1)]
    assert np.allclose(weight, (ends[0] + ends[1]) / 2)


def test_a_state_of_other_tensors_is_refused_by_name(run: Run) -> None:
    state = run.state(epoch=0)
    with pytest.raises(ValueError, match=r"extra.weight is unknown"):
        run.network(state=state | {"extra.weight": np.zeros(1)})
    with pytest.raises(ValueError, match=r"classifier.bias of shape \(10,\), got \(1,\)"):
        run.network(state=state | {"classifier.bias": np.zeros(1)})
    with pytest.raises(ValueError, match="expected a vector of"):
        run.network(state=np.zeros(3, np.float32))
    del state["classifier.bias"]
    with pytest.raises(ValueError, match=r"classifier.bias is missing"):
        run.network(state=state)
    with pytest.raises(TypeError, match="without epoch= and step="):
        run.network(epoch=0, state=state)
