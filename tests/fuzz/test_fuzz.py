import pytest

from fuzz.running import BAD, MAX_MIB, fuzzed, replayed
from fuzz.targets import Target, targets


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    return targets(tmp_path_factory.mktemp("fuzz"))


def test_inputs_that_nobody_wrote_are_read_right_or_refused(kinds: list[Target]) -> None:
    for kind in kinds:
        found = fuzzed(kind, lambda num_inputs: not num_inputs, seed=0, batch_size=12)
        assert not found.bad, kind.name
        assert sum(found.outcomes.values()) >= 5, kind.name
        assert found.mib < MAX_MIB, kind.name


def test_what_went_wrong_once_does_not_again(kinds: list[Target]) -> None:
    outcomes = [replayed(kind).outcomes for kind in kinds]
    assert sum(found[bad] for found in outcomes for bad in BAD) == 0
    assert sum(map(len, outcomes)) > 5


def test_the_guard_fails_where_an_input_is_taken_for_another(kinds: list[Target]) -> None:
    def read(data: bytes) -> None:
        raise LookupError(data)

    found = fuzzed(Target("x", kinds[0].inputs, read), lambda num: not num, 0, 5)
    assert found.outcomes["UNTYPED"] == sum(found.outcomes.values())
