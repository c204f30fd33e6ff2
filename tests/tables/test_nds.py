import json
from typing import Any

import pytest

from dtb_builder import errors
from dtb_builder.network import NetworkSpec
from dtb_builder.space import NAMED
from dtb_builder.tables import read_nds

GENOTYPE = NAMED["DARTS_V2"]


def network(**changes: Any) -> dict[str, Any]:
    genotype: dict[str, Any] = {
        "normal": [list(edge) for edge in GENOTYPE.normal],
        "normal_concat": [2, 3, 4, 5],
        "reduce": [list(edge) for edge in GENOTYPE.reduce],
        "reduce_concat": [2, 3, 4, 5],
    }
    return {
        "net": {"genotype": genotype | changes, "width": 20, "depth": 11, "aux": True},
        "optim": {"lr": 0.1},
        "test_ep_top1": [60.0, 12.5, 6.25],
    }


def test_a_list_of_networks_is_read() -> None:
    trained, outside = read_nds(json.dumps([network(), network()]))
    assert [each.number for each in trained] == [0, 1]
    assert trained[0].genotype == GENOTYPE
    assert (trained[0].channels, trained[0].layers, trained[0].auxiliary) == (20, 11, True)
    assert trained[0].test_accuracy == 0.9375
    assert outside == ()
    assert trained[0].spec(num_classes=10, image_size=32) == NetworkSpec(
        channels=20, layers=11, num_classes=10, image_size=32
    )


def test_the_top_stands_before_the_middle() -> None:
    top, mid = network(), network() | {"test_ep_top1": [50.0]}
    trained, _ = read_nds(json.dumps({"top": [top], "mid": [mid]}))
    assert [each.test_accuracy for each in trained] == [0.9375, 0.5]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"normal": [["none", 0], *GENOTYPE.normal[1:]]}, "got 'none'"),
        ({"reduce": [["skip_connect", 1], ["skip_connect", 1], *GENOTYPE.reduce[2:]]}, "1 twice"),
        ({"normal_concat": [4, 5]}, "normal_concat: wanted"),
        ({"normal": [["skip_connect", 0]] * 10}, "cells of NASNet, AmoebaNet and ENAS"),
    ],
)
def test_a_cell_outside_the_space_is_listed_with_its_reason(
    changes: dict[str, Any], reason: str
) -> None:
    trained, outside = read_nds(json.dumps([network(**changes), network()]))
    assert [each.number for each in trained] == [1]
    assert [each.number for each in outside] == [0]
    assert reason in outside[0].reason


@pytest.mark.parametrize(
    "text", ["", "{}", "7", '{"top": []}', '{"top": 1, "mid": 2}', "[1]", '[{"net": {}}]']
)
def test_another_format_is_refused(text: str) -> None:
    with pytest.raises(errors.TableError):
        read_nds(text)


def test_an_error_that_is_no_percentage_is_refused() -> None:
    for bad in ([], [101.0], [float("nan")], [10**400]):
        with pytest.raises(errors.TableError, match="network 0 has another format"):
            read_nds(json.dumps([network() | {"test_ep_top1": bad}]))
