"""The readers of genotypes that others trained: OnceNAS, NAS-Bench-301 and the 214 retrained."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from genotype_tables import oncenas_text, retrained_files, run301_text

from dtb_builder.errors import TableError
from dtb_builder.space import NAMED, sample_uniform
from dtb_builder.tables import read_oncenas, read_retrained, read_run301

GENOTYPES = [sample_uniform(0, i) for i in range(3)]


def test_oncenas_has_test_accuracies_and_outsiders() -> None:
    text = str(GENOTYPES[0])
    none = text.replace(GENOTYPES[0].normal[0].operation, "none", 1)
    trained, outside = read_oncenas(oncenas_text([(none, 90.0), (text, 92.5)]))
    assert [(each.number, each.genotype, each.test_accuracy) for each in trained] == [
        (1, GENOTYPES[0], 0.925)
    ]
    assert (trained[0].channels, trained[0].layers) == (36, 20)
    assert [each.number for each in outside] == [0]


@pytest.mark.parametrize("accuracy", ["nan", "101", "high", ""])
def test_an_accuracy_of_oncenas_that_is_none_is_refused(accuracy: str) -> None:
    text = oncenas_text([(str(GENOTYPES[0]), 90.0)]).replace("90.0", accuracy)
    with pytest.raises(TableError, match="row 0 is not one of OnceNAS-Bench"):
        read_oncenas(text)
    with pytest.raises(TableError, match="row 0"):
        read_oncenas("a,b\n1,2")
    with pytest.raises(TableError, match="wanted CSV"):
        read_oncenas("a" * 200_000)


def test_retrained_genotypes_have_their_last_accuracy_not_their_best(tmp_path: Path) -> None:
    curves = np.array([[50.0, 97.0, 96.5], [40.0, 95.0, 95.25], [10.0, 20.0, 30.0]])
    path = retrained_files(tmp_path, GENOTYPES, curves)
    trained = read_retrained(path.read_bytes(), curves)
    assert [each.genotype for each in trained] == GENOTYPES
    assert [each.test_accuracy for each in trained] == [0.965, 0.9525, 0.3]


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("a pickle was run",)


def test_a_pickle_is_not_run_and_other_files_are_refused(tmp_path: Path) -> None:
    curves = np.array([[97.0]])
    evil = pickle.dumps([Evil(), str(GENOTYPES[0])], protocol=3)
    assert read_retrained(evil, curves)[0].genotype == GENOTYPES[0]
    for pickled, wrong in (
        (b"no pickle", curves),
        (evil[:-9], curves[:0]),
        (evil, np.zeros((2, 3))),
        (evil, np.array([[101.0]])),
        (evil, np.zeros((1, 0))),
        (pickle.dumps(["Genotype()"]), curves),
    ):
        with pytest.raises(TableError):
            read_retrained(pickled, wrong)


@pytest.mark.parametrize("name", NAMED)
def test_a_run_of_nasbench301_has_its_genotype_size_and_last_accuracy(name: str) -> None:
    trained, recipe = read_run301(run301_text(NAMED[name], 93.5), 7)
    assert trained.genotype == NAMED[name]
    assert (trained.number, trained.channels, trained.layers) == (7, 2, 2)
    assert (trained.auxiliary, trained.test_accuracy) == (True, 0.935)
    assert recipe["budget"] == 100
    assert not any("edge" in key for key in recipe)


def test_another_json_is_no_run_of_nasbench301() -> None:
    run = json.loads(run301_text(GENOTYPES[0], 93.5))
    edges = run["optimized_hyperparamater_config"]
    del edges[next(name for name in edges if "edge_reduce" in name)]
    huge = run301_text(GENOTYPES[0], 10**400)
    for text in (json.dumps(run), "{}", "7", "[" * 2000, run301_text(GENOTYPES[0], 1e3), huge):
        with pytest.raises(TableError, match="wanted a run of NAS-Bench-301"):
            read_run301(text, 0)
