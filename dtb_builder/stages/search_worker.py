"""What a worker does for a search: train one candidate as far as the rule wants, and score it."""

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from dtb_builder.errors import ConfigError, ImagesError
from dtb_builder.metrics import choose_probe
from dtb_builder.metrics.names import SCORES
from dtb_builder.metrics.scoring import Probe, score_network
from dtb_builder.network import NetworkSpec
from dtb_builder.space import Genotype
from dtb_builder.stages.das_reference import probe_tensor
from dtb_builder.stages.plan import load_split_images, network_spec
from dtb_builder.stages.population import EARLY_FIGURES
from dtb_builder.stages.search_config import SearchConfig, SearchRule
from dtb_builder.stages.storage import is_storage_fault
from dtb_builder.stages.workers import initial_network
from dtb_builder.training.loop import train
from dtb_builder.training.resident import LabelledImages, ResidentImages, make_resident
from dtb_builder.training.setup import set_up_torch

__all__ = ["Candidate", "spec_and_steps", "try_candidate"]

_ATOMS = ("distinguishing_ability", "activation_units")


@dataclass(frozen=True)
class Candidate:
    """A genotype that may win.

    Attributes:
        index: its place in the search.
        genotype: its canonical text.
        parent: the index of the candidate it is a mutation of; None for a random one.
    """

    index: int
    genotype: str
    parent: int | None


def try_candidate(config: SearchConfig, rule: SearchRule, candidate: Candidate) -> dict[str, Any]:
    """The candidate's line: its scores by name, what they cost, and an error if it has none.

    Raises:
        ImagesError: the images are not here. That is no fault of the candidate.
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
    except Exception as error:
        if is_storage_fault(error) or isinstance(error, ImagesError):
            raise
        line |= {"error": f"{type(error).__name__}: {error}", "steps": 0}
    return line | {"seconds": time.perf_counter() - begin}


def spec_and_steps(config: SearchConfig) -> tuple[NetworkSpec, int]:
    """How candidates are grown, and the training steps of an epoch.

    Raises:
        ConfigError: the networks do not fit the images, or the probe is too large.
        ImagesError: the images are not here.
    """
    setting = _setting(config)
    return setting.spec, -(-len(setting.data.train) // config.recipe.batch_size)


@dataclass(frozen=True, eq=False)
class _Setting:
    """What all candidates share."""

    spec: NetworkSpec
    data: ResidentImages
    probe: Probe


def _scores(
    config: SearchConfig, rule: SearchRule, candidate: Candidate
) -> tuple[dict[str, float], int]:
    """The candidate's scores, and the training steps that they took."""
    setting = _setting(config)
    network = initial_network(Genotype.parse(candidate.genotype), setting.spec, config.seed)
    early: dict[str, float] = {}
    steps = 0
    if rule.epoch != 0:
        wants_valid = rule.score.startswith("valid")
        data = _within(setting.data, rule, config, wants_valid=wants_valid)
        losses = 0.0
        for finished in train(network, data, config.recipe, seed=config.seed):
            losses += finished.metrics.get("train_loss", 0.0)
            if finished.epoch == (rule.epoch or 1):
                early = {
                    "training_speed": -losses,
                    "train_loss": -finished.metrics["train_loss"],
                    "valid_loss": -finished.metrics["valid_loss"],
                    "valid_accuracy": finished.metrics["valid_accuracy"],
                }
                break
        per_epoch = -(-len(data.train) // config.recipe.batch_size)
        steps = (rule.epoch or 1) * per_epoch
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
    """The images of a candidate's training: no test images, and for a step only its batches."""

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
    """Remembered, since a CPU worker tries one candidate after the other."""
    compute = config.compute
    set_up_torch(threads=compute.threads, deterministic=compute.deterministic)
    images, split = load_split_images(config.images)
    spec = network_spec(config.network, images)
    try:
        probe = choose_probe(
            images.train_images, split.train, config.num_images, seed=config.probe_seed
        )
    except ValueError as error:
        raise ConfigError(f"the search's probe, of {images.name}: {error}") from error
    labels = torch.from_numpy(images.train_labels[probe.indices])
    return _Setting(
        spec,
        make_resident(images, split, compute.device),
        Probe(
            probe_tensor(probe, images).to(compute.device),
            labels.to(compute.device),
            features=f"cells.{spec.layers - 1}",
        ),
    )
