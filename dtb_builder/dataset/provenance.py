"""The parts of a provenance that describing or repeating a benchmark needs, checked."""

from typing import Any

from dtb_builder.dataset.json_object import check_shape
from dtb_builder.dataset.query import Benchmark
from dtb_builder.dataset.schema import (
    ENVIRONMENT_SHAPE,
    PROVENANCE_SHAPE,
    UNITED_PROVENANCE_SHAPE,
)

__all__ = ["device_names", "whole_provenance"]


def whole_provenance(benchmark: Benchmark) -> dict[str, Any]:
    """The provenance, with all keys of the schema's shape.

    Raises:
        DamagedFileError: a key is missing or of another type.
    """
    provenance = benchmark.provenance
    shape = UNITED_PROVENANCE_SHAPE if "plans" in provenance else PROVENANCE_SHAPE
    check_shape(provenance, shape, f"{benchmark.path}: the provenance", whole=True)
    return provenance


def device_names(benchmark: Benchmark) -> list[str]:
    """The names of the devices that the benchmark's epochs ran on, sorted, each once.

    Raises:
        DamagedFileError: an environment names none.
    """
    for environment in benchmark.environments:
        check_shape(environment, ENVIRONMENT_SHAPE, f"{benchmark.path}: an environment", whole=True)
    return sorted({environment["device_name"] for environment in benchmark.environments})
