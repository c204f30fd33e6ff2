"""Small files in the formats of tables of trained genotypes, of networks that nobody trained."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dtb_builder.space import Genotype

__all__ = ["oncenas_text", "retrained_files", "run301_text"]


def by_node(genotype: Genotype) -> str:
    """The text as pt.darts writes it."""
    cells = {
        name: [[tuple(edge) for edge in cell[i : i + 2]] for i in range(0, 8, 2)]
        for name, cell in (("normal", genotype.normal), ("reduce", genotype.reduce))
    }
    concats = "normal_concat=range(2, 6)", "reduce_concat=range(2, 6)"
    parts = f"normal={cells['normal']}", concats[0], f"reduce={cells['reduce']}", concats[1]
    return f"GENOTYPE=Genotype({', '.join(parts)})"


def retrained_files(folder: Path, genotypes: Sequence[Genotype], curves: np.ndarray) -> Path:
    """Both files; returns the pickle's path."""
    best = [(by_node(g), np.max(curve)) for g, curve in zip(genotypes, curves, strict=True)]
    path = folder / "214genotypes.pkl"
    path.write_bytes(pickle.dumps(best, protocol=3))
    np.save(folder / "214_random_architectures.npy", curves)
    return path


def oncenas_text(rows: Sequence[tuple[str, float]]) -> str:
    """A row for each genotype's text and its test accuracy in percent."""
    lines = ["weights_index,architecture,valid_acc50,test_acc50"]
    lines += [f'{i:06},"{text}",{accuracy},{accuracy}' for i, (text, accuracy) in enumerate(rows)]
    return "\n".join(lines)


def run301_text(genotype: Genotype, test_accuracy: float, **recipe: object) -> str:
    """A run's file."""
    prefix = "NetworkSelectorDatasetInfo:darts:"
    settings: dict[str, object] = {
        f"{prefix}init_channels": 2,
        f"{prefix}layers": 2,
        f"{prefix}auxiliary": "True",
        "CreateImageDataLoader:batch_size": 96,
        **recipe,
    }
    for name, cell in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        for i, (operation, predecessor) in enumerate(cell):
            node = 2 + i // 2
            first = node * (node - 1) // 2 - 1  # edges of the nodes before
            settings[f"{prefix}edge_{name}_{first + predecessor}"] = operation
    run = {
        "optimized_hyperparamater_config": settings,
        "budget": 100,
        "info": [{"val_accuracy": 99.0, "epochs": 98}],
        "test_accuracy": test_accuracy,
        "learning_curves": {"Train/val_accuracy": [50.0, 99.0, 98.0]},
    }
    return json.dumps(run)
