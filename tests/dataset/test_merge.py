import itertools
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dtb_builder import Benchmark
from dtb_builder.dataset import codec
from dtb_builder.dataset.merge import merge, remove_old_volumes
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.states import frame_rows
from dtb_builder.dataset.store import FailedRun
from dtb_builder.dataset.verify import verify
from dtb_builder.errors import (
    DamagedFileError,
    DuplicateRunError,
    MissingVolumeError,
    PlanMismatchError,
)
from dtb_builder.record import METRICS
from dtb_builder.space import sample_uniform

MakeShard = Callable[..., Path]
Flip = Callable[..., None]


def merged(shards: list[Path], target: Path, **options: Any) -> str:
    """Merge and verify; returns the hash of the index file."""
    for _ in merge(shards, target, **options):
        pass
    assert [checked for checked in verify(target) if checked.error] == []
    return sha256(target.read_bytes()).hexdigest()


def said(path: Path) -> dict[Any, Any]:
    """Everything that a benchmark says."""
    found: dict[Any, Any] = {}
    with Benchmark(path) as benchmark:
        for run in benchmark:
            about = (run.number, run.seed, run.genotype, run.num_parameters, run.tensors)
            environments = [run.environment(epoch=e) for e in range(run.num_epochs + 1)]
            crcs = [run.state_crc32c(epoch=e) for e in range(run.num_epochs + 1)]
            found[run.number] = (about, environments, crcs, run.origin, run.moments)
            for name in METRICS:
                found[run.number, name] = run.curve(name).tolist()
            for moment in run.moments:
                state = run.training_state(step=moment.step)
                found[run.number, moment] = (state.values.tobytes(), state.num_batches_tracked)
            for epoch in run.momentum_epochs:
                found[run.number, "momentum", epoch] = run.momentum(epoch=epoch)["scalar"]
    return found


@pytest.fixture
def shards(make_shard: MakeShard) -> list[Path]:
    """Runs out of order and interleaved, on two devices."""
    return [
        make_shard("a", [4, 1], device="abacus"),
        make_shard("b", [3, 0, 6], device="sliderule"),
        make_shard("c", [2, 5], diverged={5: 1}),
    ]


def test_the_order_of_the_shards_does_not_matter(shards: list[Path], tmp_path: Path) -> None:
    hashes = {
        merged(list(order), tmp_path / f"{i}.h5")
        for i, order in enumerate(itertools.permutations(shards))
    }
    assert len(hashes) == 1


def test_merging_says_what_the_shards_say(shards: list[Path], tmp_path: Path) -> None:
    merged(shards, tmp_path / "dtb.h5")
    together = {key: value for path in shards for key, value in said(path).items()}
    assert said(tmp_path / "dtb.h5") == together
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        assert benchmark.numbers.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_states_are_copied_without_being_decoded_or_compressed_again(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frames(path: Path) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        with Benchmark(path) as benchmark:
            states, moments = benchmark._store.states, benchmark.moments
            for row, run in enumerate(benchmark):
                places = states.places(row)
                rows = frame_rows(moments, places.length, places.momentum_length)
                found[run.number] = [
                    states.frame(places, name, position)
                    for name, positions in rows.items()
                    for position in positions
                ]
        return found

    before = {key: frame for path in shards for key, frame in frames(path).items()}
    with monkeypatch.context() as patch:
        for name in ("encode", "decode"):
            patch.setattr(codec, name, lambda *_, **__: pytest.fail("a state was recoded"))
        for _ in merge(shards, tmp_path / "dtb.h5"):
            pass
    # HDF5's own compression would not cut blocks at the planes of bytes.
    assert frames(tmp_path / "dtb.h5") == before


def test_merging_again_gives_the_same_bytes(shards: list[Path], tmp_path: Path) -> None:
    assert merged(shards, tmp_path / "dtb.h5") == merged(shards, tmp_path / "dtb.h5")


@pytest.mark.parametrize("volume_size", [None, 1])
def test_a_merge_of_merges_is_the_merge(
    volume_size: int | None, shards: list[Path], tmp_path: Path
) -> None:
    at_once = merged(shards, tmp_path / "at_once.h5")
    merged(shards[:2], tmp_path / "two.h5", volume_size=volume_size)
    assert merged([shards[2], tmp_path / "two.h5"], tmp_path / "dtb.h5") == at_once


@pytest.mark.parametrize(("volume_size", "num_volumes"), [(1, 7), (2600, 4), (10**9, 1)])
def test_volumes_say_what_one_file_says(
    volume_size: int, num_volumes: int, shards: list[Path], tmp_path: Path
) -> None:
    merged(shards, tmp_path / "single.h5")
    merged(shards, tmp_path / "dtb.h5", volume_size=volume_size)
    assert said(tmp_path / "dtb.h5") == said(tmp_path / "single.h5")
    assert len(list(tmp_path.glob("states-*.h5"))) == num_volumes


def test_the_index_stands_without_its_volumes(shards: list[Path], tmp_path: Path) -> None:
    merged(shards, tmp_path / "dtb.h5", volume_size=1)
    (volume,) = tmp_path.glob("states-*-00003.h5")
    volume.unlink()
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        assert benchmark.array("valid_loss", epoch=1).count() == 7
        missing = [run for run in benchmark if not has_states(run)]
        assert len(missing) == 1
        with pytest.raises(MissingVolumeError, match=volume.name):
            missing[0].state(epoch=0)


def has_states(run: Any) -> bool:
    try:
        run.state(epoch=0)
    except MissingVolumeError:
        return False
    return True


def test_a_volume_of_another_benchmark_is_refused(
    shards: list[Path], make_shard: MakeShard, tmp_path: Path
) -> None:
    merged(shards, tmp_path / "dtb.h5", volume_size=10**9)
    other = tmp_path / "other"
    other.mkdir()
    another = make_shard("foreign", [1], seed=7, provenance='{"another": "plan"}')
    merged([another], other / "dtb.h5", volume_size=10**9)
    (volume,) = tmp_path.glob("states-*.h5")
    (foreign,) = other.glob("states-*.h5")
    foreign.replace(volume)
    with (
        Benchmark(tmp_path / "dtb.h5") as benchmark,
        pytest.raises(DamagedFileError, match="belongs to another benchmark"),
    ):
        benchmark.run(1).state(epoch=2)


def test_a_run_in_two_shards_is_refused_with_both_names(
    make_shard: MakeShard, tmp_path: Path
) -> None:
    shards = [make_shard("a", [1, 2]), make_shard("b", [2, 3], seed=1)]
    with pytest.raises(DuplicateRunError, match=r"run 2 is in several shards: .*a\.h5 and .*b\.h5"):
        merged(shards, tmp_path / "dtb.h5")


def test_shards_of_different_plans_are_refused(make_shard: MakeShard, tmp_path: Path) -> None:
    shards = [make_shard("a", [1]), make_shard("b", [2], provenance="{}")]
    with pytest.raises(PlanMismatchError, match="different plans"):
        merged(shards, tmp_path / "dtb.h5")


def test_no_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no shards"):
        merged([], tmp_path / "dtb.h5")


def test_a_failure_is_forgotten_once_its_run_finished(
    make_shard: MakeShard, failed: FailedRun, tmp_path: Path
) -> None:
    later = FailedRun(9, sample_uniform(0, 9), 0, 0, 1, "never finished")
    shards = [make_shard("a", [1], [failed, later]), make_shard("b", [4])]
    merged(shards, tmp_path / "dtb.h5")
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        assert benchmark.failures == (later,)
        assert 4 in benchmark.numbers


def test_a_damaged_state_stops_the_merge_and_is_named(
    shards: list[Path], tmp_path: Path, flip: Flip
) -> None:
    with Benchmark(shards[1]) as benchmark:
        offset = int(benchmark._store.index.column("moments/offset")[2, 4])
    flip(shards[1], offset + 20)
    with pytest.raises(DamagedFileError) as caught:
        merged(shards, tmp_path / "dtb.h5", volume_size=1)
    assert "in the states of run 6" in caught.value.__notes__
    left = {path.name for path in tmp_path.glob("*.h5")} | {p.name for p in tmp_path.glob(".*")}
    assert left == {path.name for path in shards}


@pytest.mark.parametrize("sizes", [(1, 10**9), (10**9, 1), (None, 1), (1, None)])
def test_a_second_merge_leaves_what_the_first_published_until_it_is_done(
    sizes: tuple[int | None, int | None], shards: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "dtb.h5"
    merged(shards[:2], target, volume_size=sizes[0])
    before = said(target)
    with Benchmark(target) as reader:
        for _ in merge(shards, target, volume_size=sizes[1]):
            assert said(target) == before
        # Who has the old index open reads the old states, for they have names of their own.
        last = reader.moments[-1]
        whole = [run for run in reader if run.num_epochs == 2]
        states = {r.number: r.training_state(epoch=2).values.tobytes() for r in whole}
    assert states == {number: before[number, last][0] for number in states}
    assert said(target).keys() > before.keys()


def test_the_volumes_of_an_earlier_merge_can_be_removed(shards: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "dtb.h5"
    merged(shards, target, volume_size=1)
    merged(shards, target, volume_size=10**9)
    assert len(list(tmp_path.glob("states-*.h5"))) == 8
    remove_old_volumes(target)
    assert len(list(tmp_path.glob("states-*.h5"))) == 1
    merged(shards, target, volume_size=10**9)  # verified


def test_no_more_than_one_volume_is_open_at_a_time(make_shard: MakeShard, tmp_path: Path) -> None:
    shards = [make_shard("many", range(12))]
    most_open = 0
    for _ in merge(shards, tmp_path / "dtb.h5", volume_size=1):
        links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        most_open = max(most_open, sum(link.name.startswith(".states-") for link in links))
    assert most_open == 1


def test_shards_with_states_of_different_steps_are_refused(
    make_shard: MakeShard, tmp_path: Path
) -> None:
    shards = [make_shard("a", [1]), make_shard("b", [2], steps=())]
    with pytest.raises(PlanMismatchError, match="different plans"):
        merged(shards, tmp_path / "dtb.h5")


def test_shards_with_other_differences_are_refused(make_shard: MakeShard, tmp_path: Path) -> None:
    shards = [make_shard("a", [1]), make_shard("b", [2], differences={})]
    with pytest.raises(PlanMismatchError, match="different plans"):
        merged(shards, tmp_path / "dtb.h5")


def test_shards_of_different_lengths_are_refused(make_shard: MakeShard, tmp_path: Path) -> None:
    write_shard(tmp_path / "short.h5", [], provenance='{"config": {"plan": "fake"}}', num_epochs=1)
    with pytest.raises(PlanMismatchError, match="different plans"):
        merged([make_shard("a", [1]), tmp_path / "short.h5"], tmp_path / "dtb.h5")


def test_of_two_failures_of_a_run_the_order_of_the_shards_does_not_choose(
    make_shard: MakeShard, failed: FailedRun, tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()
    other = replace(failed, message="another reason")
    shards = [make_shard("a", [], [failed]), make_shard("again/a", [], [other])]
    orders = (shards, shards[::-1])
    assert len({merged(order, tmp_path / "dtb.h5") for order in orders}) == 1


def test_nothing_is_left_of_a_merge_that_nobody_finished(
    shards: list[Path], tmp_path: Path
) -> None:
    unfinished = merge(shards, tmp_path / "dtb.h5", volume_size=1)
    next(unfinished)
    unfinished.close()  # pyright: ignore[reportAttributeAccessIssue]
    left = {path.name for path in tmp_path.glob("*.h5")} | {p.name for p in tmp_path.glob(".*")}
    assert left == {path.name for path in shards}
