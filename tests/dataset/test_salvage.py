from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from altering import alter
from chaos.mutants import seal
from dataset.conftest import fake_moments

from dtb_builder import Benchmark
from dtb_builder.dataset import schema
from dtb_builder.dataset.journal import read_journal
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.opening import dataset_at
from dtb_builder.dataset.salvage import LostRun, SavedRun, salvage
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.subset import subset

MakeShard = Callable[..., Path]
Flip = Callable[..., None]
COVERED = {column.name for column in schema.ROW_COLUMNS}


@pytest.fixture
def merged(make_shard: MakeShard, tmp_path: Path) -> Path:
    """A benchmark of runs 0 to 3."""
    path = tmp_path / "dtb.h5"
    list(merge([make_shard("a", [0, 1], diverged={1: 1}), make_shard("b", [2, 3])], path))
    return path


def salvaged(path: Path) -> tuple[list[int], list[int | None]]:
    """The numbers of the saved and of the lost runs; the saved ones are what they were."""
    folder = path.parent / "salvaged"
    folder.mkdir(exist_ok=True)
    outcomes = list(salvage(path, folder, plan="plan"))
    saved = [outcome for outcome in outcomes if isinstance(outcome, SavedRun)]
    journals = [read_journal(run.journal) for run in saved]
    assert all(journal is not None and journal.is_finished(2) for journal in journals)
    return (
        [run.number for run in saved],
        [outcome.number for outcome in outcomes if isinstance(outcome, LostRun)],
    )


def column_offset(path: Path, name: str, row: int) -> int:
    """The first byte of a run's row of a column."""
    with h5py.File(path) as file:
        dataset = dataset_at(file, name)
        return dataset.id.get_offset() + row * (dataset.nbytes // len(dataset))


def test_a_sound_file_is_salvaged_whole(merged: Path, tmp_path: Path) -> None:
    assert salvaged(merged) == ([0, 1, 2, 3], [])
    journals = [read_journal(path) for path in sorted((tmp_path / "salvaged").iterdir())]
    with Benchmark(merged) as benchmark:
        provenance = '{"config": {"plan": "fake"}}'
        assert benchmark.provenance == {"config": {"plan": "fake"}}
    again = tmp_path / "again.h5"
    whole = [journal for journal in journals if journal is not None]
    write_shard(again, whole, provenance=provenance, num_epochs=2, moments=fake_moments())
    list(merge([again], tmp_path / "remerged.h5"))
    assert (tmp_path / "remerged.h5").read_bytes() == merged.read_bytes()


@pytest.mark.parametrize("column", sorted(COVERED))
def test_damage_in_a_row_costs_that_run_alone_or_nothing(
    column: str, merged: Path, flip: Flip
) -> None:
    flip(merged, column_offset(merged, column, 2), bit=1)
    saved, lost = salvaged(merged)
    if column in ("runs/key", "runs/iso_key"):
        assert (saved, lost) == ([0, 1, 2, 3], [])
    else:
        assert (saved, lost) == ([0, 1, 3], [2])


def test_damage_in_the_numbers_costs_everything(merged: Path, flip: Flip) -> None:
    """A run's checksum goes with it to another number: nothing else would prove which it is."""
    flip(merged, column_offset(merged, "runs/number", 2), bit=1)
    assert salvaged(merged) == ([], [None] * 4)


@pytest.mark.parametrize("column", [column.name for column in schema.MOMENTS])
def test_damage_in_the_table_of_moments_costs_everything(
    column: str, merged: Path, flip: Flip
) -> None:
    flip(merged, column_offset(merged, column, 3), bit=1)
    saved, lost = salvaged(merged)
    assert (saved, len(lost)) == ([], 4)


@pytest.mark.parametrize(
    "column",
    [
        "runs/crc32c",
        "runs/environment",
        "runs/origin",
        "runs/tensors_offset",
        "runs/volume",
        "moments/offset",
        "moments/momentum_offset",
    ],
)
def test_damage_in_what_can_be_found_otherwise_costs_nothing(
    column: str, merged: Path, flip: Flip
) -> None:
    for row in range(4):
        flip(merged, column_offset(merged, column, row), bit=1)
    assert salvaged(merged) == ([0, 1, 2, 3], [])


@pytest.mark.parametrize(
    ("column", "position"), [("offset", 4), ("offset", 1), ("offset", 3), ("momentum_offset", 3)]
)
def test_a_damaged_frame_costs_its_run(
    column: str, position: int, merged: Path, flip: Flip
) -> None:
    with Benchmark(merged) as benchmark:
        offset = int(benchmark._store.index.column(f"moments/{column}")[3, position])
    flip(merged, offset + 25)
    assert salvaged(merged) == ([0, 1, 2], [3])


def test_a_difference_to_a_state_that_is_not_there_costs_its_run(merged: Path) -> None:
    with h5py.File(merged, "r+") as file:
        dataset_at(file, "moments/length")[1, 0] = 0
        seal(file)
    assert salvaged(merged) == ([0, 2, 3], [1])


def test_a_row_is_proved_where_the_column_of_row_checksums_is_damaged(
    merged: Path, flip: Flip
) -> None:
    flip(merged, column_offset(merged, "metrics/valid_loss", 0), bit=1)
    flip(merged, column_offset(merged, "runs/crc32c", 3))
    assert salvaged(merged) == ([1, 2], [0, 3])


def test_a_missing_column_costs_everything_and_says_which(merged: Path, tmp_path: Path) -> None:
    with h5py.File(merged, "r+") as file:
        del file["metrics/test_loss"]
    outcomes = list(salvage(merged, tmp_path, plan="plan"))
    assert outcomes == [LostRun(None, "the column metrics/test_loss is missing")] * 4


def test_runs_of_a_file_without_states_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "small.h5"
    with Benchmark.example() as example:
        subset(example, [0, 3], into=path, states="none")
        tensors = example.run(3).tensors
    alter(path, "metrics/valid_loss", (0, 1), 0.25, of_row=False)
    lost, saved = salvage(path, tmp_path, plan="plan")
    assert (lost.number, saved.number) == (0, 3)
    assert isinstance(saved, SavedRun)
    journal = read_journal(saved.journal)
    assert journal is not None
    assert journal.run.tensors == tensors
