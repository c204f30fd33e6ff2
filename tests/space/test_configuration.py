import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.errors import GenotypeError
from dtb_builder.space import NAMED, NUM_GENOTYPES, OPERATIONS, sample_uniform
from dtb_builder.space.configuration import CHOICES, config_space, configuration_of, genotype_from
from dtb_builder.space.numbering import genotype_of

numbers = st.integers(0, NUM_GENOTYPES - 1)
configurations = st.fixed_dictionaries(
    {name: st.sampled_from(choices) for name, choices in CHOICES.items()}
)


@given(numbers)
def test_a_genotype_comes_back_from_its_configuration(number: int) -> None:
    genotype = genotype_of(number)
    assert str(genotype_from(configuration_of(genotype))) == str(genotype)


@given(configurations)
def test_a_configuration_comes_back_from_its_genotype(configuration: dict[str, str]) -> None:
    assert configuration_of(genotype_from(configuration)) == configuration


def test_there_are_as_many_configurations_as_genotypes() -> None:
    assert math.prod(map(len, CHOICES.values())) == NUM_GENOTYPES


def test_a_configuration_is_read_by_people() -> None:
    configuration = configuration_of(NAMED["DARTS_V2"])
    assert len(configuration) == 22
    assert configuration["normal_node_5"] == "0 and 2"
    assert configuration["normal_edge_7"] == "dil_conv_3x3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal_node_3": "0 and 3"}, "normal_node_3: wanted one of 0 and 1, 0 and 2"),
        ({"reduce_edge_0": "none"}, f"reduce_edge_0: wanted one of {', '.join(OPERATIONS)}, got"),
        ({"normal_node_2": "0 and 1"}, r"\['normal_node_2'\] are unknown and \[\] are missing"),
    ],
)
def test_other_choices_are_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        genotype_from(configuration_of(NAMED["DARTS_V2"]) | change)
    with pytest.raises(GenotypeError, match="are missing"):
        genotype_from({})


def test_config_space_knows_the_same_space() -> None:
    pytest.importorskip("ConfigSpace", reason="needs the extra [search]")
    space = config_space(seed=0)
    assert space.estimate_size() == NUM_GENOTYPES
    drawn = [genotype_from(dict(one)) for one in space.sample_configuration(20)]
    assert len(set(drawn)) == 20
    assert drawn == [
        genotype_from(dict(one)) for one in config_space(seed=0).sample_configuration(20)
    ]
    from ConfigSpace import Configuration

    known = Configuration(space, configuration_of(sample_uniform(0, 0)))
    assert genotype_from(dict(known)) == sample_uniform(0, 0)
