from pathlib import Path

import pytest

from chaos.mutant_checks import (
    MAX_MIB,
    check_damaged,
    check_hostile,
    check_replaced,
    make_files,
)
from chaos.mutants import HOSTILE, STAND_INS, regions


@pytest.mark.parametrize("kind", ["shard", "benchmark"])
def test_damaged_files_are_refused_or_tell_the_truth(kind: str, tmp_path: Path) -> None:
    path = make_files(tmp_path)[kind]
    report = check_damaged(path, tmp_path, num_mutants=300, seed=1)
    assert report.bad == []
    assert sum(report.outcomes.values()) == 300
    assert report.outcomes["refused"] > 20
    assert report.outcomes["refused in part"] > 20
    assert report.peak_mib < MAX_MIB


def test_hostile_files_are_refused_or_tell_the_truth(tmp_path: Path) -> None:
    path = make_files(tmp_path)["benchmark"]
    report = check_hostile(path, tmp_path)
    assert report.bad == []
    assert sum(report.outcomes.values()) == len(HOSTILE)


def test_links_are_followed_and_pipes_and_devices_never_block(tmp_path: Path) -> None:
    report = check_replaced(make_files(tmp_path)["shard"], tmp_path)
    assert report.bad == []
    others = len(STAND_INS) - 1
    assert report.outcomes == {"right": 2, "refused": others, "refused in part": others}


def test_every_region_of_a_file_is_known(tmp_path: Path) -> None:
    found = regions(make_files(tmp_path)["shard"])
    assert set(found) == {
        "superblock",
        "index",
        "texts",
        "checksums",
        "tensors",
        "frames",
        "HDF5's own",
    }
