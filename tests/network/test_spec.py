"""The spec refuses networks that cannot be, and needs no torch to be read."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.network import NetworkSpec

SPEC = NetworkSpec(channels=16, layers=8, num_classes=10, image_size=32, auxiliary=True)


@given(
    st.builds(
        NetworkSpec,
        channels=st.integers(1, 64),
        layers=st.integers(1, 30),
        num_classes=st.integers(1, 1000),
        input_channels=st.integers(1, 4),
        image_size=st.integers(8, 224),
    )
)
def test_a_spec_survives_json(spec: NetworkSpec) -> None:
    assert NetworkSpec(**json.loads(json.dumps(asdict(spec)))) == spec


@pytest.mark.parametrize(
    ("layers", "reductions"),
    [(1, {0}), (2, {0, 1}), (3, {1, 2}), (4, {1, 2}), (5, {1, 3}), (8, {2, 5}), (20, {6, 13})],
)
def test_reductions_stand_at_one_and_two_thirds(layers: int, reductions: set[int]) -> None:
    spec = NetworkSpec(channels=16, layers=layers, num_classes=10, image_size=32)
    assert spec.reductions == reductions
    assert spec.auxiliary_cell == max(reductions)


@pytest.mark.parametrize("field", ["channels", "layers", "num_classes", "input_channels"])
@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None])
def test_a_size_must_be_a_positive_integer(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be an integer of at least 1, got"):
        replace(SPEC, **{field: value})


def test_auxiliary_must_be_a_truth_value() -> None:
    with pytest.raises(ValueError, match="auxiliary must be true or false, got 'no'"):
        replace(SPEC, auxiliary="no")


def test_images_below_eight_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size must be at least 8 pixels, got 7"):
        NetworkSpec(channels=4, layers=3, num_classes=10, image_size=7)


@pytest.mark.parametrize(("layers", "smallest", "largest"), [(1, 15, 20), (2, 29, 40), (8, 29, 40)])
def test_the_auxiliary_head_fits_just_the_images_that_its_error_names(
    layers: int, smallest: int, largest: int
) -> None:
    for image_size in range(8, 65):
        if smallest <= image_size <= largest:
            spec = replace(SPEC, layers=layers, image_size=image_size)
            assert 8 <= spec.map_size <= 10
        else:
            with pytest.raises(ValueError, match=f"images of {smallest} to {largest} pixels"):
                replace(SPEC, layers=layers, image_size=image_size)


def test_the_auxiliary_heads_error_says_what_was_wanted_and_what_came() -> None:
    with pytest.raises(ValueError, match="a map of 8 to 10 pixels, got 7 from image_size 28 with"):
        replace(SPEC, image_size=28)


def test_reading_a_spec_does_not_import_torch() -> None:
    code = "import sys, dtb_builder.network.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
