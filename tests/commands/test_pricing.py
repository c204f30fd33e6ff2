import re
from pathlib import Path

import pytest

from dtb_builder.cli import main

SMALL = ("network.channels=2", "network.layers=2", "recipe.num_epochs=1", "space.num_genotypes=2")


def test_a_plan_is_priced_by_its_hours_whenever_a_price_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(tmp_path), *SMALL, "compute=cuda"]) == 0
    assert "\nprice" not in capsys.readouterr().out
    assert main(["plan", str(tmp_path), "cost.per_gpu_hour=1e9"]) == 0
    said = capsys.readouterr().out
    hours = float(re.search(r"about ([\d.e-]+) hours", said)[1])  # type: ignore[index]
    price = re.search(r"price +(about|less than) ([\d,.]+), at 1e\+09 an hour of a GPU", said)
    assert price is not None
    assert float(price[2].replace(",", "")) == pytest.approx(1e9 * hours, rel=0.01)


def test_a_plan_without_gpus_has_no_price_by_the_gpu_hour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(tmp_path), *SMALL, "cost.per_gpu_hour=2"]) == 2
    assert "trains on the cpu, not on GPUs" in capsys.readouterr().err
