"""The task of a search's worker: train a candidate as far as the rule needs, and score it."""

import math
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from dtb_builder.errors import ConfigError, DivergedError, ImagesError
from dtb_builder.images.image_set import Images
from dtb_builder.images.settings import load_split_images
from dtb_builder.images.splits import Split
from dtb_builder.network import NetworkSpec
from dtb_builder.network.initial import initial_network
from dtb_builder.scores import ProbeImages, choose_probe
from dtb_builder.scores.names import SCORES
from dtb_builder.scores.probed import probe_tensor
from dtb_builder.scores.scoring import Probe, score_network
from dtb_builder.space import Genotype
from dtb_builder.stages.ranking.population import EARLY_FIGURES
from dtb_builder.stages.search.config import SearchConfig, SearchRule
from dtb_builder.stages.settings.network import network_spec
from dtb_builder.training.kernels import library_of
from dtb_builder.training.loop import train
from dtb_builder.training.machine import set_up_machine
from dtb_builder.training.resident import LabelledImages, ResidentImages, make_resident

__all__ = ["Candidate", "epoch_steps", "steps_of", "try_candidate"]

_ATOMS = ("distinguishing_ability", "activation_units")


@dataclass(frozen=True)
class Candidate:
    """A genotype that may win.

    Attributes:
        index: its position in the search.
        genotype: its canonical text.
        parent: the index of the candidate of which it is a mutation; None for a random one.
    """

    index: int
    genotype: str
    parent: int | None


def try_candidate(config: SearchConfig, rule: SearchRule, candidate: Candidate) -> dict[str, Any]:
    """The candidate's line: its scores by name, their seconds and steps, or an error.

    Raises:
        ImagesError: the images are missing.
        ConfigError: this machine does not have the device of the config.
    """
    begin = time.perf_counter()
    line: dict[str, Any] = {
        "index": candidate.index,
        "genotype": candidate.genotype,
        "parent": candidate.parent,
        "scores": {},
        "error": None,
    }
    try:
        with threadpool_limits(config.compute.threads):
            line["scores"], line["steps"] = _scores(config, rule, candidate)
    except (OSError, ImagesError, ConfigError):  # errors of the machine, not of the candidate
        raise
    except Exception as error:  # noqa: BLE001 - any error of a network or a score is its result
        line |= {"error": f"{type(error).__name__}: {error}", "steps": 0}
    return line | {"seconds": time.perf_counter() - begin}


def epoch_steps(config: SearchConfig) -> int:
    """The number of training steps of an epoch; raises as `steps_of`."""
    return config.recipe.num_steps(len(_sources(config)[1].train))


def steps_of(config: SearchConfig, rule: SearchRule) -> int:
    """The number of training steps of a candidate; uses no device.

    Raises:
        ConfigError: the networks do not fit the images, there are too few images for the probe, or
            the rule's step is not in the first epoch.
        ImagesError: the images are missing.
    """
    per_epoch, num_images = epoch_steps(config), len(_sources(config)[1].train)
    if rule.step is not None and rule.step > per_epoch:
        raise ConfigError(
            f"the rule's step must be in the first epoch, which has {per_epoch}: {num_images}"
            f" images in batches of {config.recipe.batch_size}; got {rule.step}"
        )
    return rule.num_steps(per_epoch)


@dataclass(frozen=True, eq=False)
class _Setting:
    """The network spec, images and probe of all candidates."""

    spec: NetworkSpec
    data: ResidentImages
    probe: Probe


def _scores(
    config: SearchConfig, rule: SearchRule, candidate: Candidate
) -> tuple[dict[str, float], int]:
    """The candidate's scores, and the number of training steps that they took."""
    setting = _setting(config)
    network = initial_network(Genotype.parse(candidate.genotype), setting.spec, config.seed)
    network.use_kernels(library_of(config.compute, config.recipe.activations))
    early: dict[str, float] = {}
    steps = 0
    if rule.epoch != 0:
        wants_valid = rule.score.startswith("valid")
        data = _within(setting.data, rule, config, wants_valid=wants_valid)
        losses = 0.0
        last = rule.epoch or 1
        recipe = replace(config.recipe, evaluate_epochs=(last,))
        for finished in train(network, data, recipe, seed=config.seed):
            losses += finished.metrics.get("train_loss", 0.0)
            if finished.epoch == last:
                early = {
                    "training_speed": -losses,
                    "train_loss": -finished.metrics["train_loss"],
                    "valid_loss": -finished.metrics["valid_loss"],
                    "valid_accuracy": finished.metrics["valid_accuracy"],
                }
                break
        steps = last * config.recipe.num_steps(len(data.train))
        if diverged := {name: value for name, value in early.items() if not math.isfinite(value)}:
            raise DivergedError(f"its training up to {rule} ended with {diverged}")
    if rule.score in EARLY_FIGURES:
        return {rule.score: early[rule.score]}, steps
    names = (rule.score,) if rule.score in SCORES else _ATOMS
    scored = score_network(network.to(config.compute.device), setting.probe, names)
    if scored.errors:
        raise ValueError("; ".join(f"{name}: {why}" for name, why in scored.errors.items()))
    return {name: scored.values[name] for name in names}, steps


def _within(
    data: ResidentImages, rule: SearchRule, config: SearchConfig, *, wants_valid: bool
) -> ResidentImages:
    """The images of a candidate's training: one test image, and for a step only its batches."""

    def first(part: LabelledImages, number: int) -> LabelledImages:
        return LabelledImages(part.images[:number], part.labels[:number])

    held_back = replace(data, test=first(data.test, 1))
    if not wants_valid:
        held_back = replace(held_back, valid=first(data.valid, 1))
    if rule.step is None:
        return held_back
    order = torch.from_numpy(np.random.default_rng(config.seed).permutation(len(data.train))).to(
        data.device
    )
    chosen = order[: rule.step * config.recipe.batch_size]
    return replace(
        held_back, train=LabelledImages(data.train.images[chosen], data.train.labels[chosen])
    )


@lru_cache(maxsize=1)
def _setting(config: SearchConfig) -> _Setting:
    """Cached, since a CPU worker tries one candidate after the other."""
    compute = config.compute
    set_up_machine(compute)
    images, split, spec, probe = _sources(config)
    labels = torch.from_numpy(images.train_labels[probe.indices])
    return _Setting(
        spec,
        make_resident(images, split, compute.device),
        Probe(
            probe_tensor(probe, images.mean, images.std).to(compute.device),
            labels.to(compute.device),
            features=f"cells.{spec.layers - 1}",
        ),
    )


@lru_cache(maxsize=1)
def _sources(config: SearchConfig) -> tuple[Images, Split, NetworkSpec, ProbeImages]:
    """The images, and the split, network spec and probe that follow from them."""
    images, split = load_split_images(config.images)
    spec = network_spec(config.network, images)
    try:
        probe = choose_probe(
            images.train_images, split.train, config.num_images, seed=config.probe_seed
        )
    except ValueError as error:
        raise ConfigError(f"the search's probe, of {images.name}: {error}") from error
    return images, split, spec, probe
