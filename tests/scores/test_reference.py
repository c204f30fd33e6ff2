import json
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import torch

from dtb_builder.network import NetworkSpec
from dtb_builder.scores import activation_units, find_reference, shipped_references
from dtb_builder.scores.drawing import draw_reference
from dtb_builder.scores.reference import to_json
from dtb_builder.space import sample_uniform

SHIPPED = shipped_references()


def test_the_shipped_samples_do_not_drift() -> None:
    assert {
        name: (len(each.abilities), each.num_images, each.probe_sha256[:16])
        for name, each in SHIPPED.items()
    } == {
        "quickstart": (200, 128, "70d054b7d1a24eb5"),
        "fashion_small": (200, 128, "74684866cb64efad"),
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_their_units_are_those_of_the_closed_form(name: str) -> None:
    reference = SHIPPED[name]
    assert list(reference.activation_units) == [
        activation_units(sample_uniform(reference.seed, i), reference.spec)
        for i in range(len(reference.activation_units))
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_sample_is_found_by_its_spec_and_probe(name: str) -> None:
    reference = SHIPPED[name]
    assert find_reference(reference.spec, reference.probe_sha256) == reference
    wider = replace(reference.spec, channels=32)
    for spec, probe in [(wider, reference.probe_sha256), (reference.spec, "0" * 64)]:
        assert not reference.fits(spec, probe)
        with pytest.raises(KeyError, match="none of the shipped references quickstart, fashion_sm"):
            find_reference(spec, probe)


def test_an_auxiliary_head_makes_no_difference() -> None:
    spec = NetworkSpec(channels=4, layers=8, num_classes=10, image_size=32)
    reference = replace(SHIPPED["quickstart"], spec=spec)
    assert reference.fits(replace(spec, auxiliary=True), reference.probe_sha256)


def test_the_shipped_file_is_what_the_command_would_write() -> None:
    text = resources.files("dtb_builder.scores").joinpath("references.json").read_text("utf-8")
    assert to_json(SHIPPED) == text
    assert json.loads(text).keys() == SHIPPED.keys()


def test_drawing_gives_the_same_sample_again_and_leaves_torchs_generator_alone() -> None:
    spec = NetworkSpec(channels=2, layers=1, num_classes=2, input_channels=1, image_size=8)
    images = torch.randn(4, 1, 8, 8)
    before = torch.get_rng_state()
    first = draw_reference(spec, images, "0" * 64, 100, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    assert draw_reference(spec, images, "0" * 64, 100, seed=5) == first
    assert np.isfinite(first.abilities).all()
    with pytest.raises(ValueError, match="a reference needs at least 100 genotypes, got 2"):
        draw_reference(spec, images, "0" * 64, 2, seed=5)


def test_atoms_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted as many abilities as units, got 200 and 0"):
        replace(SHIPPED["quickstart"], activation_units=())
