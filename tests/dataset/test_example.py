"""The benchmark inside the package, its images, and its states evaluated anew."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from dtb_builder import Benchmark
from dtb_builder.errors import ImagesError, StateNotKeptError
from dtb_builder.images.image_set import Images
from dtb_builder.images.splits import Split, stratified_split
from dtb_builder.stages.generation.reproduce import agrees, environment_changes, tolerances_of
from dtb_builder.training.augmentation import normalise


@pytest.fixture(scope="module")
def bench() -> Iterator[Benchmark]:
    with Benchmark.example() as bench:
        yield bench


def test_the_example_is_small_and_has_what_a_newcomer_tries(bench: Benchmark) -> None:
    assert sum(file.stat().st_size for file in bench.files) < 2_000_000
    run = bench.run(0)
    assert set(bench.seeds.tolist()) == {0, 1}
    assert len(run.state_epochs) > 2
    assert run.state_steps
    assert run.momentum_epochs
    assert set(range(run.num_epochs)) - set(run.state_epochs)  # something to replay
    assert bench.provenance["config"]["compute"]["kernels"] == "off"
    assert bench.array("test_accuracy", epoch=-1).min() > 0.8


def test_images_are_those_that_networks_saw(bench: Benchmark) -> None:
    found = bench.images()
    sizes = {name: split["size"] for name, split in bench.provenance["splits"].items()}
    for name, size in sizes.items():
        part = getattr(found, name)
        assert part.images.shape == (size, *bench.provenance["images"]["shape"])
        assert (part.images.dtype, part.labels.shape) == (np.float32, (size,))
    seen = torch.tensor(found.train.pixels)
    mean, std = (
        torch.tensor(each, dtype=torch.float32) for each in (found.train.mean, found.train.std)
    )
    assert torch.equal(normalise(seen, mean=mean, std=std), torch.from_numpy(found.train.images))


def test_other_images_are_refused(bench: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Images, "sha256", "0" * 64)
    with pytest.raises(ImagesError, match="is not what"):
        bench.images()


def test_another_split_is_refused(bench: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(labels: np.ndarray, num_valid: int, seed: int, *, num_train: int | None) -> Split:
        return stratified_split(labels, num_valid, seed + 1, num_train=num_train)

    monkeypatch.setattr("dtb_builder.images.settings.stratified_split", other)
    with pytest.raises(ImagesError, match="the train images are not those of"):
        bench.images()


def test_a_state_evaluated_anew_has_its_stored_accuracy(bench: Benchmark) -> None:
    """To the last bit where it was trained; elsewhere as near as `reproduce` wants."""
    tolerances = tolerances_of(bench)
    for run, epoch in ((bench.run(0), 0), (bench.run(3), 3), (bench.run(11), -1)):
        same = not environment_changes(run, epoch)
        for split in ("valid", "test"):
            found = run.evaluate(epoch=epoch, split=split)
            for name in ("loss", "accuracy"):
                metric = f"{split}_{name}"
                stored = run.metric(metric, epoch=epoch)
                tolerance = 0.0 if same else tolerances[metric]
                assert agrees(metric, getattr(found, name), stored, tolerance)
    assert bench.run(0).evaluate(step=10, split="train").accuracy > 0.05


def test_what_cannot_be_evaluated_is_refused(bench: Benchmark) -> None:
    run = bench.run(0)
    with pytest.raises(StateNotKeptError, match="epoch 2"):
        run.evaluate(epoch=2, split="test")
    with pytest.raises(ValueError, match="train, valid, test"):
        run.evaluate(epoch=1, split="tests")  # pyright: ignore[reportArgumentType]


def test_a_state_that_the_example_lacks_is_replayed(bench: Benchmark) -> None:
    run = bench.run(0)
    replayed = run.replay(epoch=2)
    assert replayed.start == 1
    assert environment_changes(run, 2) or replayed.is_same


def test_hooks_that_flatten_maps_work_on_a_contiguous_network(bench: Benchmark) -> None:
    images = torch.from_numpy(bench.images().test.images[:4])

    def viewable(number: int, *, contiguous: bool) -> bool:
        seen: list[bool] = []

        def hook(_module: torch.nn.Module, maps: tuple[torch.Tensor], _output: object) -> None:
            seen.append(maps[0].is_contiguous())

        network = bench.run(number).network(epoch=-1, contiguous=contiguous)
        for module in network.modules():
            if isinstance(module, torch.nn.ReLU):
                module.register_forward_hook(hook)
        network(images)
        return all(seen)

    assert "dil_conv" in str(bench.run(8).genotype)  # which computes channels last
    assert viewable(8, contiguous=True)
    assert not viewable(8, contiguous=False)
