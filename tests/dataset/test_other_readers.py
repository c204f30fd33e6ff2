"""What programs that know nothing of this package read of a file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import hdf5plugin
import numpy as np
import pytest

from dtb_builder import Benchmark

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.h5"))
ALONE = "import sys; sys.modules['dtb_builder'] = None"
"""Makes an import of this package an error."""

with_tools = pytest.mark.skipif(
    shutil.which("h5dump") is None, reason="HDF5's own tools are not installed"
)


def printed_alone(code: str) -> str:
    """What a new process prints that cannot import this package."""
    command = [sys.executable, "-c", f"{ALONE}\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def dumped(path: Path, dataset: str, **environment: str) -> list[float]:
    """The numbers that h5dump prints of a dataset."""
    command = ["h5dump", "-d", dataset, "-A", "0", "-y", "-w", "0", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | environment
    )
    numbers = done.stdout.partition("DATA {")[2].partition("}")[0]
    return [float(number) for number in numbers.replace(",", " ").split()]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_h5py_alone_reads_metrics_without_any_filter(path: Path) -> None:
    code = f"""
import h5py
sys.modules["hdf5plugin"] = None
with h5py.File({str(path)!r}) as file:
    accuracy, measured = file["metrics/valid_accuracy"], file["measured/valid_accuracy"]
    filters = accuracy.id.get_create_plist().get_nfilters()
    print(accuracy[:, :2].tolist(), measured[...].tolist(), filters)
"""
    assert (
        printed_alone(code).strip()
        == "[[0.0, 0.25], [0.125, 0.375], [0.25, 0.5]] [[1, 1, 1], [1, 1, 1], [1, 1, 0]] 0"
    )


def test_h5py_with_the_zstd_filter_reads_states_of_every_kind() -> None:
    code = f"""
import h5py, hdf5plugin
with h5py.File({str(GOLDEN[-1])!r}) as file:
    group = file["states/00000001"]
    key = group["whole"][3].view("<u4")
    code = group["differences"][0]
    difference = (key + (code >> 1 ^ -(code & 1))).view("<f4")
    for values in (group["whole"][3], group["whole"][2], difference, group["momentum"][0]):
        for name, rank, shape, offset in group["tensors"][:]:
            shape = shape[:rank]
            print(name.decode(), values[offset:][:shape.prod()].reshape(shape).tolist())
"""
    with Benchmark(GOLDEN[-1]) as benchmark:
        run = benchmark.run(1)
        states = (run.state(epoch=1), run.state(step=2), run.state(epoch=2), run.momentum(epoch=2))
    expected = [f"{name} {array.tolist()}" for named in states for name, array in named.items()]
    assert printed_alone(code).splitlines() == expected


@with_tools
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_tools_of_hdf5_show_metrics_without_any_filter(path: Path) -> None:
    found = dumped(path, "/metrics/valid_accuracy", HDF5_PLUGIN_PATH="/nowhere")
    with Benchmark(path) as benchmark:
        expected = benchmark.array("valid_accuracy").data.reshape(-1)
        assert np.array_equal(found, expected, equal_nan=True)
        assert found[:2] == [0.0, 0.25]


@with_tools
def test_the_tools_of_hdf5_show_states_with_the_zstd_filter() -> None:
    with Benchmark(GOLDEN[-1]) as benchmark:
        run = benchmark.run(1)
        states = [run.training_state(step=step).values for step in (0, 1, 2, 3)]
        momentum = [np.concatenate([v.reshape(-1) for v in run.momentum(epoch=2).values()])]
    for name, expected in (("whole", states), ("momentum", momentum)):
        found = dumped(
            GOLDEN[-1], f"/states/00000001/{name}", HDF5_PLUGIN_PATH=hdf5plugin.PLUGIN_PATH
        )
        assert np.array_equal(found, np.concatenate(expected))
