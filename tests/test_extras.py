import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dataset.conftest import make_journal, make_shard

from dtb_builder.errors import MissingPackageError
from dtb_builder.extras import extras_are_named

__all__ = ["make_journal", "make_shard"]

ASKED = {
    "bench.to_dataframe()": "to_arrow needs the package pyarrow: pip install '{}[export]'",
    "bench.to_arrow()": "to_arrow needs the package pyarrow: pip install '{}[export]'",
    "bench.to_xarray()": "to_xarray needs the package xarray: pip install '{}[export]'",
    "bench[0].network(epoch=0)": "network needs the package torch: pip install '{}[build]'",
    "bench[0].replay(epoch=0)": "replay needs the package torch: pip install '{}[build]'",
    "bench[0].export('a.pt', epoch=0)": (
        "a state's file needs the package torch: pip install '{}[build]'"
    ),
    "config_space(seed=0)": "config_space needs the package ConfigSpace: pip install '{}[search]'",
    "tabular_blackbox(bench, metrics=())": (
        "tabular_blackbox needs the package syne_tune: pip install syne-tune"
    ),
}
LIGHT = """
import json, sys
for name in ("ConfigSpace", "pyarrow", "ray", "syne_tune", "torch", "xarray"):
    sys.modules[name] = None
from dtb_builder import Benchmark, errors
from dtb_builder.adapters.syne_tune import tabular_blackbox
from dtb_builder.space.configuration import config_space
bench, found = Benchmark(sys.argv[1]), {}
for asked in json.loads(sys.argv[2]):
    try:
        eval(asked)
    except errors.MissingPackageError as error:
        found[asked] = str(error)
print(json.dumps(found))
"""


def test_a_light_installation_names_what_to_install(make_shard: Callable[..., Path]) -> None:
    provenance = json.dumps({"network": {"channels": 2, "layers": 2, "num_classes": 10}})
    shard = make_shard("shard", [1], provenance=provenance)
    asked = [sys.executable, "-c", LIGHT, str(shard), json.dumps(list(ASKED))]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    wanted = {name: text.format("darts-training-bench") for name, text in ASKED.items()}
    assert json.loads(done.stdout) == wanted


def test_another_package_is_pythons_own_error() -> None:
    with pytest.raises(ModuleNotFoundError) as caught, extras_are_named("this"):
        import no_such_package  # noqa: F401 # pyright: ignore[reportMissingImports]
    assert not isinstance(caught.value, MissingPackageError)
