"""Training yields an honest account of each epoch, and depends on its seed only."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from recipes import RECIPES
from torch import Tensor, nn
from torch.nn import functional

from dtb_builder.images import Images, Split, load_images, stratified_split
from dtb_builder.network import NetworkSpec
from dtb_builder.network.built import passes_file
from dtb_builder.network.kernels import Library, find_library
from dtb_builder.network.network import Network
from dtb_builder.network.state import capture
from dtb_builder.record import METRICS
from dtb_builder.space import sample_uniform
from dtb_builder.training import Recipe
from dtb_builder.training.draws import draw_epoch
from dtb_builder.training.evaluation import evaluate
from dtb_builder.training.loop import train
from dtb_builder.training.resident import ResidentImages, make_resident
from dtb_builder.training.resume import Checkpoint

MakeNetwork = Callable[..., nn.Module]
AFTER_TRAINING_ONLY = {"train_loss", "train_accuracy", "train_seconds", "learning_rate"}
SECONDS = {"train_seconds", "evaluation_seconds"}


def bits_of_epochs(
    network: nn.Module, data: ResidentImages, recipe: Recipe, seed: int
) -> list[bytes]:
    """All weights and metrics but times, epoch by epoch."""
    epochs = []
    for finished in train(network, data, recipe, seed=seed):
        weights = [value.numpy().tobytes() for value in finished.network.state_dict().values()]
        metrics = [value for name, value in finished.metrics.items() if name not in SECONDS]
        epochs.append(b"".join(weights) + np.array(metrics).tobytes())
    return epochs


@pytest.mark.skipif(passes_file() is None, reason="installed without a C++ compiler")
@pytest.mark.parametrize("auxiliary", [False, True])
def test_steps_whose_passes_are_repeated_have_the_bits_of_steps_one_by_one(
    auxiliary: bool,
    images: Images,
    data: ResidentImages,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = dataclasses.replace(recipe, mixup_alpha=0.3, num_epochs=2)
    if auxiliary:
        pixels = np.tile(images.train_images, (1, 1, 4, 4))
        large = dataclasses.replace(
            images, train_images=pixels, test_images=np.tile(images.test_images, (1, 1, 4, 4))
        )
        data = make_resident(large, Split(train=np.arange(50), valid=np.arange(50, 60)), "cpu")
        recipe = dataclasses.replace(recipe, auxiliary_weight=0.4)
    spec = NetworkSpec(
        channels=4,
        layers=3,
        num_classes=4,
        image_size=data.train.images.shape[-1],
        auxiliary=auxiliary,
    )
    prepared: list[str] = []
    prepare = Library.prepared

    def counted(library: Library, name: str, *arguments: Any, **named: Any) -> Callable[[], None]:
        prepared.append(name)
        return prepare(library, name, *arguments, **named)

    monkeypatch.setattr(Library, "prepared", counted)
    counts, found = [], []
    for repeating in (Network.repeating_passes, contextlib.nullcontext):
        monkeypatch.setattr(Network, "repeating_passes", repeating)
        torch.manual_seed(0)
        network = spec.build(sample_uniform(seed=7, index=3))
        network.use_kernels(find_library())
        found.append(bits_of_epochs(network, data, recipe, seed=1))
        counts.append(prepared.count("join"))
        prepared.clear()
    assert found[0] == found[1]
    assert counts[0] == counts[1] // 2, "of four batches an epoch, the first and the odd last"


def test_each_epoch_has_the_metrics_that_were_measured(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    epochs = [(f.epoch, set(f.metrics)) for f in train(make_network(), data, recipe, seed=0)]
    measured = set(METRICS) - {"state_seconds"}
    assert epochs == [
        (0, measured - AFTER_TRAINING_ONLY),
        *((epoch, measured) for epoch in (1, 2, 3, 4)),
    ]


def test_epochs_that_are_not_evaluated_have_their_training_metrics_and_the_same_weights(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    every, some = (
        [
            (dict(finished.metrics), capture(finished.network).values)
            for finished in train(make_network(), data, each, seed=0)
        ]
        for each in (recipe, dataclasses.replace(recipe, evaluate_epochs=(2,)))
    )
    assert some[0][0] == {}, "the initialisation is evaluated where it is listed"
    for epoch, ((all_metrics, weights), (metrics, same)) in enumerate(
        zip(every, some, strict=True)
    ):
        assert np.array_equal(weights, same)
        if epoch not in (2, 4):
            assert metrics.keys() == (AFTER_TRAINING_ONLY if epoch else set())
        else:
            assert metrics.keys() == all_metrics.keys()
        assert all(value == all_metrics[k] for k, value in metrics.items() if k not in SECONDS)


def test_metrics_are_finite_floats_within_their_ranges(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    for finished in train(make_network(), data, recipe, seed=0):
        for name, value in finished.metrics.items():
            assert type(value) is float
            assert 0 <= value < (1.0000001 if name.endswith("accuracy") else math.inf)


def test_epoch_0_is_the_network_as_it_came(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    finished = next(train(make_network(), data, recipe, seed=0))
    expected = evaluate(make_network(), data.test, data)
    assert finished.metrics["test_loss"] == pytest.approx(expected.loss)
    assert finished.metrics["test_accuracy"] == expected.accuracy


def test_the_learning_rate_is_a_cosine_over_all_epochs(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    rates = [f.metrics.get("learning_rate") for f in train(make_network(), data, recipe, seed=0)]
    assert rates[0] is None
    assert rates[1] == recipe.learning_rate
    assert rates[1:] == pytest.approx(
        [1e-8 + (0.025 - 1e-8) * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]
    )


def test_the_same_seed_gives_the_same_bits(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    one = bits_of_epochs(make_network(), data, recipe, seed=3)
    torch.rand(5)
    assert bits_of_epochs(make_network(), data, recipe, seed=3) == one


def test_another_seed_gives_other_bits_after_the_initialisation(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    one, two = (bits_of_epochs(make_network(), data, recipe, seed=seed) for seed in (3, 4))
    assert [a == b for a, b in zip(one, two, strict=True)] == [True] + 4 * [False]


def test_epochs_draw_different_numbers(data: ResidentImages, recipe: Recipe) -> None:
    seen: list[bytes] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 4)

        def forward(self, images: Tensor) -> Tensor:
            if self.training:
                seen.append(images.numpy().tobytes() + torch.rand(1).numpy().tobytes())
            return self.head(images.mean((2, 3)))

    recipe = dataclasses.replace(recipe, drop_path_probability=0.0)
    list(train(Spy(), data, recipe, seed=0))
    assert len(set(seen)) == len(seen) == 4 * 4


def test_the_callers_random_numbers_are_neither_used_nor_changed(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    torch.manual_seed(11)
    np_state = str(np.random.get_state())  # noqa: NPY002 - the very state that is guarded
    expected = torch.rand(6)
    torch.manual_seed(11)
    got = [torch.rand(1) for _ in train(make_network(), data, recipe, seed=0)]
    assert torch.equal(torch.cat([*got, torch.rand(1)]), expected)
    assert str(np.random.get_state()) == np_state  # noqa: NPY002


def test_a_training_can_be_left_at_any_epoch(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    state = torch.get_rng_state()
    epochs = train(make_network(), data, recipe, seed=0)
    next(epochs)
    next(epochs)
    epochs.close()
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.is_inference_mode_enabled()


def test_the_mode_that_the_caller_leaves_the_network_in_does_not_matter(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    expected = bits_of_epochs(make_network(), data, recipe, seed=0)
    network = make_network()
    for _ in train(network, data, recipe, seed=0):
        network.eval()
    last = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
    assert expected[-1].startswith(last)


def test_drop_path_follows_the_ramp(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    probabilities = [f.network.drop_path for f in train(make_network(), data, recipe, seed=0)]
    assert probabilities == pytest.approx([0.0, 0.0, 0.05, 0.1, 0.15])


def test_a_network_that_cannot_drop_paths_is_refused_at_once(
    data: ResidentImages, recipe: Recipe
) -> None:
    with pytest.raises(ValueError, match="must have a method set_drop_path, got a Flatten"):
        train(nn.Flatten(), data, recipe, seed=0)


def test_an_auxiliary_head_is_trained(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    recipe = dataclasses.replace(recipe, auxiliary_weight=0.4)
    network = make_network(auxiliary=True)
    before = network.get_parameter("auxiliary_head.weight").clone()
    list(train(network, data, recipe, seed=0))
    assert not torch.equal(network.get_parameter("auxiliary_head.weight"), before)


def test_an_auxiliary_head_of_weight_0_changes_nothing_else(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    without, ignored = make_network(), make_network(auxiliary=True)
    list(train(without, data, recipe, seed=0))
    list(train(ignored, data, recipe, seed=0))
    for name, value in without.state_dict().items():
        assert torch.equal(ignored.state_dict()[name], value)


def test_a_missing_auxiliary_head_is_refused(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    recipe = dataclasses.replace(recipe, auxiliary_weight=0.4)
    with pytest.raises(ValueError, match=r"auxiliary_weight is 0\.4, so the network must return"):
        list(train(make_network(), data, recipe, seed=0))


def test_a_step_is_that_of_plain_sgd(data: ResidentImages) -> None:
    """One batch, no augmentation: the update written out by hand."""
    recipe = dataclasses.replace(
        RECIPES["smoke"],
        num_epochs=1,
        crop_padding=0,
        gradient_clip=0.1,
        weight_decay=0.01,
        auxiliary_weight=0.0,
    )
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).double().float()
    weight, bias = (parameter.detach().clone() for parameter in network.parameters())
    pixels = data.train.images.double() / 255
    inputs = ((pixels - data.mean[:, None, None]) / data.std[:, None, None]).flatten(1)
    wrong = (inputs @ weight.double().T + bias.double()).softmax(1)
    loss = -wrong[torch.arange(50), data.train.labels].log().mean()
    wrong[torch.arange(50), data.train.labels] -= 1
    weight_gradient, bias_gradient = wrong.T @ inputs / 50, wrong.mean(0)
    norm = (weight_gradient.square().sum() + bias_gradient.square().sum()).sqrt()
    assert norm > 0.1

    finished = list(train(network, data, recipe, seed=0))[-1]

    expected = weight - 0.05 * (weight_gradient * 0.1 / norm + 0.01 * weight)
    torch.testing.assert_close(next(network.parameters()).double(), expected, atol=1e-6, rtol=0)
    assert finished.metrics["train_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_mixed_images_count_for_both_of_their_classes(data: ResidentImages) -> None:
    class SaysClass2(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([0.0, 0.0, 3.0, 0.0]).repeat(len(images), 1) + 0 * self.unused

    recipe = dataclasses.replace(RECIPES["smoke"], batch_size=50, mixup_alpha=1.0)
    finished = list(train(SaysClass2(), data, recipe, seed=0))[-1]
    # One batch whose partners are a permutation of it: the shares cancel out.
    share = (data.train.labels == 2).double().mean().item()
    assert finished.metrics["train_accuracy"] == pytest.approx(share)
    loss = math.log(math.exp(3) + 3) - 3 * share
    assert finished.metrics["train_loss"] == pytest.approx(loss, rel=1e-5)


def test_the_training_loss_is_a_mean_over_the_images_that_were_seen(data: ResidentImages) -> None:
    losses: list[float] = []

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            logits = functional.pad(images.mean((2, 3)), (1, 0))
            if self.training:
                losses.extend((logits.logsumexp(1) - logits[:, 0]).tolist())
            return logits + 0 * self.unused

    # Three batches of 16 and a single image, which is left out.
    labels = torch.zeros(49, dtype=torch.int64)
    part = dataclasses.replace(data.train, images=data.train.images[:49], labels=labels)
    recipe = dataclasses.replace(RECIPES["smoke"], num_epochs=1, batch_size=16)
    *_, last = train(Fixed(), dataclasses.replace(data, train=part), recipe, seed=0)
    assert len(losses) == 48
    assert last.metrics["train_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_loss_that_is_not_finite_is_reported_as_it_is(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    network = make_network()
    nn.init.constant_(network.get_parameter("head.bias"), math.nan)
    epochs = list(train(network, data, recipe, seed=0))
    assert len(epochs) == 5
    assert math.isnan(epochs[-1].metrics["train_loss"])
    assert math.isnan(epochs[-1].metrics["valid_loss"])


def test_bfloat16_trains_float32_weights(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    exact = list(train(make_network(), data, recipe, seed=0))[-1].metrics["train_loss"]
    network = make_network()
    recipe = dataclasses.replace(recipe, precision="bfloat16")
    rounded = list(train(network, data, recipe, seed=0))[-1].metrics["train_loss"]
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.1)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_one_image_cannot_be_trained_on(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    single = dataclasses.replace(data.train, images=data.train.images[:1], labels=torch.tensor([0]))
    with pytest.raises(ValueError, match="at least 2 images must be trained on, got 1"):
        train(make_network(), dataclasses.replace(data, train=single), recipe, seed=0)


def test_digits_are_learned() -> None:
    digits = load_images("digits")
    data = make_resident(digits, stratified_split(digits.train_labels, 238, seed=0), "cpu")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        )
    recipe = dataclasses.replace(RECIPES["smoke"], num_epochs=4)
    *_, last = train(network, data, recipe, seed=0)
    assert last.metrics["train_accuracy"] > 0.8
    assert last.metrics["valid_accuracy"] > 0.9
    assert last.metrics["test_accuracy"] > 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_on_the_images_that_the_cpu_trains_on(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    def to_gpu(part: Tensor) -> Tensor:
        return part.cuda()

    parts = {
        name: dataclasses.replace(part, images=to_gpu(part.images), labels=to_gpu(part.labels))
        for name, part in (("train", data.train), ("valid", data.valid), ("test", data.test))
    }
    on_gpu = dataclasses.replace(data, **parts, mean=to_gpu(data.mean), std=to_gpu(data.std))
    # Dropout's numbers are the device's own.
    recipe = dataclasses.replace(recipe, drop_path_probability=0.0, num_epochs=1)
    networks = make_network(), make_network()
    for network in networks:
        network.dropout = nn.Identity()
    state = torch.cuda.get_rng_state()
    cpu, gpu = (
        list(train(network, place, recipe, seed=0))[-1]
        for network, place in zip(networks, (data, on_gpu), strict=True)
    )
    assert gpu.metrics["train_loss"] == pytest.approx(cpu.metrics["train_loss"], rel=1e-3)
    assert torch.equal(torch.cuda.get_rng_state(), state)


def state_after(network: nn.Module) -> bytes:
    return capture(network).values.tobytes()


def test_states_within_an_epoch_come_with_it_and_change_nothing(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    plain = [state_after(f.network) for f in train(make_network(), data, recipe, seed=0)]
    watched = train(make_network(), data, recipe, seed=0, state_steps=(1, 3, 4, 10))
    epochs = [(dict(f.step_states), state_after(f.network)) for f in watched]
    assert [state for _, state in epochs] == plain
    assert [list(states) for states, _ in epochs] == [[], [1, 3, 4], [], [10], []]
    steps = epochs[1][0]
    assert [state.num_batches_tracked for state in steps.values()] == [1, 3, 4]
    assert steps[4].values.tobytes() == plain[1]  # the epoch has four steps
    assert len({state.values.tobytes() for state in steps.values()}) == 3
    assert epochs[3][0][10].num_batches_tracked == 10


def test_a_training_that_goes_on_has_the_states_of_its_later_steps(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    whole = train(make_network(), data, recipe, seed=0, state_steps=(2, 7))
    first, second = next(whole), next(whole)
    assert not first.step_states
    resumed = train(
        make_network(),
        data,
        recipe,
        seed=0,
        state_steps=(2, 7),
        resume=Checkpoint.capture(second),
    )
    (expected,) = next(whole).step_states.values()
    (found,) = next(resumed).step_states.values()
    assert found.values.tobytes() == expected.values.tobytes()


def test_a_state_after_a_step_is_the_one_that_the_next_step_begins_with(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    network = make_network()
    begun: list[bytes] = []

    def note(module: nn.Module, _: object) -> None:
        if module.training:
            begun.append(state_after(module))

    network.register_forward_pre_hook(note)
    whole = train(network, data, recipe, seed=0, state_steps=(1, 2, 3))
    states = {step: state for f in whole for step, state in f.step_states.items()}
    for step, state in states.items():
        assert state.values.tobytes() == begun[step]
    assert list(states) == [1, 2, 3]


@pytest.mark.parametrize("steps", [(0,), (17,), (2, 99)])
def test_steps_that_the_training_has_not_are_refused(
    steps: tuple[int, ...], make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    with pytest.raises(ValueError, match=r"state_steps must be in 1\.\.16, got "):
        train(make_network(), data, recipe, seed=0, state_steps=steps)


@pytest.mark.parametrize("num_images", [2, 15, 16, 17, 18, 50])
def test_an_epoch_has_as_many_steps_as_it_draws_batches(num_images: int, recipe: Recipe) -> None:
    draws = draw_epoch(num_images, recipe, size=(8, 8), rng=np.random.default_rng(0))
    assert recipe.num_steps(num_images) == len(list(draws))
