"""Scoring stored states with user-defined scores in this process."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtb_builder.dataset import Benchmark, Run
from dtb_builder.dataset.trained_images import images_of
from dtb_builder.errors import ScoreError
from dtb_builder.extras import extras_are_named

if TYPE_CHECKING:
    import pandas
    from torch import nn

    from dtb_builder.scores.own import OwnScore

__all__ = ["score_states"]


@extras_are_named("score_states")
def score_states(
    bench: Benchmark,
    scores: "Mapping[str, OwnScore]",
    *,
    runs: Iterable[Run | int] | None = None,
    epochs: Iterable[int] | None = None,
    steps: Iterable[int] | None = None,
    num_images: int = 128,
    probe_seed: int = 0,
    root: Path | None = None,
) -> "pandas.DataFrame":
    """Score stored states as ``dtb score --score`` does, with bitwise equal values.

    A score is called with a network, and the probe's images and labels as contiguous tensors. The
    network is in training mode without drop-path, and returns only logits. The score returns a
    number; larger is better.

    Args:
        bench: the benchmark.
        scores: the scores, by the names of their columns.
        runs: as in `Benchmark.states`.
        epochs: as in `Benchmark.states`.
        steps: as in `Benchmark.states`.
        num_images: number of images of the probe, drawn from the training images.
        probe_seed: the seed of that draw.
        root: the folder of the images, or None for the default.

    Returns:
        One row per state: run, seed, order_seed, epoch (missing within an epoch), step, a column
        for each score (NaN if it failed), and errors (why a score failed).

    Raises:
        StateNotKeptError: no run has a state of one of the epochs or steps.
        ImagesError: the images here are not those of the training.
        ScoreError: a score failed for every state.

    >>> def width(network, images, labels):
    ...     return network(images[:1]).shape[1]
    >>> table = score_states(Benchmark.example(), {"width": width}, epochs=[-1], runs=[0, 1])
    >>> table[["run", "epoch", "width"]].values.tolist()
    [[0.0, 5.0, 10.0], [1.0, 5.0, 10.0]]
    """
    import torch  # isort: skip - if both are missing, the error should name torch
    import pandas

    from dtb_builder.network.state import restore
    from dtb_builder.scores.own import score_own
    from dtb_builder.scores.probe import choose_probe
    from dtb_builder.scores.probed import probe_tensor
    from dtb_builder.scores.scoring import Probe, Scored
    from dtb_builder.training.setup import set_up_torch, torch_as_it_was

    images, split = images_of(bench.provenance, root, user=bench.path)
    chosen = choose_probe(images.train_images, split.train, num_images, seed=probe_seed)
    labels = torch.from_numpy(images.train_labels[chosen.indices])
    probe = Probe(probe_tensor(chosen, images.mean, images.std), labels, features="")
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    network: nn.Module | None = None
    built_of: Run | None = None
    with torch_as_it_was():
        set_up_torch(threads=1, deterministic=True)
        for state in bench.states(runs=runs, epochs=epochs, steps=steps):
            if network is None or state.run != built_of:
                network, built_of = state.network(), state.run
            else:
                restore(network, state.training_state)
            scored = Scored()
            score_own(scored, network, probe, scores)
            failed |= scored.errors
            missing = dict.fromkeys(scores, float("nan"))
            rows.append(
                {
                    "run": state.run.number,
                    "seed": state.run.seed,
                    "order_seed": state.run.order_seed,
                    "epoch": state.epoch,
                    "step": state.step,
                    **(missing | scored.values),
                    "errors": "; ".join(f"{k}: {why}" for k, why in scored.errors.items()) or None,
                }
            )
    for name, reason in failed.items():
        if all(math.isnan(row[name]) for row in rows):
            raise ScoreError(f"{name} of every state: {reason}")
    return pandas.DataFrame(rows).sort_values(["run", "step"], ignore_index=True)
