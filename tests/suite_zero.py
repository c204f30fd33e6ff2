"""The published tables of tests/data, and networks as their authors initialised them."""

import ast
import csv
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dtb_builder.space import OPERATIONS, Genotype
from dtb_builder.tables.cell101 import Cell101
from dtb_builder.tables.network101 import Network101

__all__ = ["cells", "column", "genotypes", "initialise"]

DATA = Path(__file__).parent / "data"
VERTEX_OPERATIONS = {2: "maxpool3x3", 3: "conv1x1-bn-relu", 4: "conv3x3-bn-relu"}


def column(table: str, name: str) -> NDArray[np.float64]:
    """A column of ``nb101_cells`` or ``nb301_genotypes``, shape (rows,)."""
    return np.array([float(row[name]) for row in _rows(table)])


def cells() -> list[Cell101]:
    """The cells of ``nb101_cells``, in its order."""
    found = []
    for row in _rows("nb101_cells"):
        key = ast.literal_eval(row["key"])
        matrix = [key[i : i + 7] for i in range(0, 49, 7)]
        found.append(Cell101.from_matrix(matrix, [VERTEX_OPERATIONS[i] for i in key[50:55]]))
    return found


def genotypes() -> list[Genotype]:
    """The genotypes of ``nb301_genotypes``, in its order."""
    keys = [ast.literal_eval(row["genotype_key"]) for row in _rows("nb301_genotypes")]
    return [
        Genotype(*(tuple((OPERATIONS[i], node) for node, i in cell) for cell in key))  # pyright: ignore[reportArgumentType]
        for key in keys
    ]


def initialise(network: Network101) -> None:
    """Draw weights of the deviations that the published ``l2_norm`` and ``synflow`` show."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        network.classifier.weight.normal_(0, 0.01)
        network.classifier.bias.zero_()


def _rows(table: str) -> list[dict[str, str]]:
    with (DATA / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))
