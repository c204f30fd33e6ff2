import contextlib
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dtb_builder import Benchmark, Genotype
from dtb_builder.dataset.merge import merge
from dtb_builder.errors import ClosedError, DTBError, GenotypeError, NotDTBFileError
from dtb_builder.record import METRICS
from dtb_builder.space import NAMED, Edge, sample_uniform

MakeShard = Callable[..., Path]


def respelled(genotype: Genotype) -> Genotype:
    """The same genotype with the edges of every node swapped."""

    def swapped(edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
        return tuple(edge for i in range(0, 8, 2) for edge in (edges[i + 1], edges[i]))

    return Genotype(swapped(genotype.normal), swapped(genotype.reduce))


def test_a_genotype_is_found_in_any_spelling(shard: Path) -> None:
    genotype = sample_uniform(0, 5)
    with Benchmark(shard) as benchmark:
        for spelling in (genotype, respelled(genotype), str(respelled(genotype))):
            assert benchmark[spelling].number == 5
            assert spelling in benchmark
            assert (spelling, 0) in benchmark
            assert (spelling, 1) not in benchmark
            assert [run.number for run in benchmark.runs_of(spelling)] == [5]


def test_a_miss_names_what_is_there(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        assert NAMED["DARTS_V1"] not in benchmark
        assert benchmark.runs_of(NAMED["DARTS_V1"]) == ()
        with pytest.raises(KeyError, match=r"none of the 2 runs of .* is of DARTS_V1"):
            benchmark[NAMED["DARTS_V1"]]
        with pytest.raises(KeyError, match=r"has no run 4; it has 2 runs, 3 to 5"):
            benchmark.run(4)
        with pytest.raises(KeyError, match=r"has no run 9"):
            benchmark.run(9)


def test_a_published_genotype_is_found_by_its_name(make_shard: MakeShard) -> None:
    with Benchmark(make_shard("named", [2], genotype=NAMED["DARTS_V2"])) as benchmark:
        assert "DARTS_V2" in benchmark
        assert benchmark["DARTS_V2"].number == 2
        assert "DARTS_V1" not in benchmark


def test_a_benchmark_is_a_sequence_of_its_runs(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        assert [benchmark[i].number for i in (0, 1, -1, np.int64(-2))] == [3, 5, 5, 3]
        assert benchmark[:] == benchmark[0:9] == tuple(benchmark)
        assert list(reversed(benchmark)) == list(benchmark[::-1])
        assert random.Random(0).choice(benchmark) in benchmark
        assert Benchmark(shard)[0] in benchmark
        for position in (2, -3):
            with pytest.raises(IndexError, match=f"no position {position} among 2 runs"):
                benchmark[position]


Foreign = namedtuple("Foreign", "normal normal_concat reduce reduce_concat")


def test_whether_a_genotype_is_in_a_benchmark_is_asked_like_its_run(shard: Path) -> None:
    genotype = sample_uniform(0, 5)
    foreign = Foreign(list(genotype.normal), [2, 3, 4, 5], list(genotype.reduce), range(2, 6))
    with Benchmark(shard) as benchmark:
        assert foreign in benchmark
        assert benchmark[foreign, 0] == benchmark[foreign] == benchmark.run(5)
        outside = foreign._replace(normal_concat=[3, 4, 5])
        wrongs: list[Any] = ["nonsense", outside, True, 1.5, None, ()]
        for wrong in wrongs:
            for ask in (lambda it: it in benchmark, benchmark.__getitem__):
                with pytest.raises((GenotypeError, TypeError)):
                    ask(wrong)


@pytest.mark.parametrize("epoch", [True, 1.0, "1", None])
def test_only_whole_numbers_are_epochs_runs_and_counts(epoch: Any, shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        run = benchmark.run(3)
        for asked in (
            lambda: run.metric("valid_loss", epoch=epoch),
            lambda: run.state(epoch=epoch),
            lambda: next(iter(benchmark.streamed(["runs/seed"], epoch))),
            lambda: run.environment(epoch=epoch),
            lambda: benchmark.epoch_row(epoch),
            lambda: benchmark.top(1, by="valid_loss", epoch=epoch),
            lambda: benchmark.array("valid_loss", epoch=epoch or True),
            lambda: benchmark.run(epoch),
            lambda: benchmark.top(epoch, by="valid_loss", epoch=0),
        ):
            with pytest.raises(TypeError, match="must be a whole number, got"):
                asked()


def test_columns_that_there_are_not_cannot_be_streamed(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        with pytest.raises(KeyError, match="no column 'metrics/nope'"):
            benchmark.streamed(["runs/seed", "metrics/nope"], 2)
        with pytest.raises(ValueError, match="num_runs must be at least 1, got 0"):
            benchmark.streamed(["runs/seed"], 0)
        assert list(benchmark.streamed([], 2)) == [{}]


def test_a_list_of_truth_values_is_a_mask(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        assert [run.number for run in benchmark.select([False, True])] == [5]
        with pytest.raises(ValueError, match="expected a mask of 2 truth values"):
            benchmark.select([0, 1])


def test_numbers_of_numpy_are_numbers(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        assert benchmark.run(benchmark.numbers[1]).number == 5
        assert benchmark.run(3).metric("valid_loss", epoch=benchmark.numbers[0] - 2) == 2.0


def test_a_run_is_itself_however_it_was_found(shard: Path) -> None:
    with Benchmark(shard) as benchmark, Benchmark(shard) as again:
        assert benchmark.run(3) == again.run(3)
        assert benchmark.run(3) != benchmark.run(5)
        assert len({*benchmark, *again}) == 2


def test_benchmarks_and_runs_can_be_sent_to_another_process(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        sent = pickle.dumps((benchmark, list(benchmark)))
        states = [run.state(epoch=-1)["scalar"] for run in benchmark]
    code = (
        "import pickle, sys; benchmark, runs = pickle.load(sys.stdin.buffer); "
        "print(len(benchmark), *(float(run.state(epoch=-1)['scalar']) for run in runs))"
    )
    read = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    number, *values = read.stdout.split()
    assert int(number) == 2
    assert [float(value) for value in values] == [float(state) for state in states]


def test_a_benchmark_outlives_a_change_of_folder_and_of_its_name(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in merge([shard], tmp_path / "dtb.h5", volume_size=1):
        pass
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Benchmark("shard.h5") as single, Benchmark("dtb.h5") as volumes:
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert volumes.run(3).state(epoch=-1)
        shard.rename(tmp_path / "elsewhere" / "moved.h5")
        assert single.run(3).state(epoch=-1)


def test_a_miss_hints_at_isomorphic_genotypes(make_shard: MakeShard) -> None:
    # Nodes 2 and 3 both read only c_{k-2} and c_{k-1}, so their names can be exchanged.
    first, second = (
        (Edge("sep_conv_3x3", 0), Edge("skip_connect", 1)),
        (
            Edge("max_pool_3x3", 0),
            Edge("dil_conv_3x3", 1),
        ),
    )
    rest = (Edge("sep_conv_3x3", 0), Edge("sep_conv_3x3", 1)) * 2
    one = Genotype(first + second + rest, first + second + rest)
    other = Genotype(second + first + rest, first + second + rest)
    with Benchmark(make_shard("shard", [1], genotype=one)) as benchmark:
        assert [run.number for run in benchmark.isomorphic_to(other)] == [1]
        assert other not in benchmark
        with pytest.raises(KeyError, match=r"runs \[1\] are of isomorphic genotypes"):
            benchmark[other]


def test_several_runs_of_a_genotype_are_all_given_and_none_is_chosen(
    make_shard: MakeShard, tmp_path: Path
) -> None:
    genotype = NAMED["DARTS_V2"]
    shards = [make_shard(str(n), [n], genotype=genotype, seed=n) for n in (1, 2)]
    list(merge(shards, tmp_path / "dtb.h5"))
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        assert [run.seed for run in benchmark.runs_of(genotype)] == [1, 2]
        with pytest.raises(KeyError, match=r"2 runs of this genotype, of seed/.* 1/1, 2/2: use"):
            benchmark[genotype]


def test_runs_of_one_genotype_are_told_apart_by_both_seeds(
    make_shard: MakeShard, tmp_path: Path
) -> None:
    genotype = NAMED["DARTS_V2"]
    seeds = [(0, 5), (0, 6), (1, 5)]
    shards = [
        make_shard(str(n), [n], genotype=genotype, seed=seed, order_seed=order)
        for n, (seed, order) in enumerate(seeds)
    ]
    list(merge(shards, tmp_path / "dtb.h5"))
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        assert (benchmark.seeds.tolist(), benchmark.order_seeds.tolist()) == ([0, 0, 1], [5, 6, 5])
        assert benchmark[genotype, 0, 6].number == 1
        assert benchmark[str(genotype), 1].number == 2
        assert benchmark.run_of(genotype, order_seed=6).order_seed == 6
        for ask in (
            lambda: benchmark[genotype, 0],
            lambda: benchmark.run_of(genotype, order_seed=5),
        ):
            with pytest.raises(KeyError, match="2 runs of this genotype, of seed/order seed 0/5"):
                ask()
        with pytest.raises(KeyError, match="no run of seed 1 and order_seed 6 among those"):
            benchmark[genotype, 1, 6]
        with pytest.raises(TypeError, match="seed must be a whole number, got '0'"):
            benchmark.run_of(genotype, seed="0")  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match="expected a genotype, a seed and an order seed"):
            benchmark[genotype, 0, 6, 1]  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_a_run_that_diverged_ends_before_the_others(make_shard: MakeShard) -> None:
    with Benchmark(make_shard("shard", [1, 2], diverged={2: 1})) as benchmark:
        assert benchmark.last_epochs.tolist() == [2, 1]
        run = benchmark.run(2)
        assert (run.num_epochs, run.state_epochs, run.momentum_epochs) == (1, (0, 1), (1,))
        assert benchmark.array("valid_loss", epoch=-1).tolist() == [1.0, None]
        assert [top.number for top in benchmark.top(9, by="valid_loss", epoch=-1)] == [1]
        with pytest.raises(KeyError, match="not measured at epoch 2; it was at 0 to 1"):
            run.metric("valid_loss", epoch=-1)
        for ask in (lambda: run.environment(epoch=-1), lambda: run.state_crc32c(epoch=2)):
            with pytest.raises(KeyError, match="run 2 has no epoch 2: it ended at 1"):
                ask()
        with pytest.raises(KeyError, match="state of epoch 2 was not kept; kept are 0 to 1"):
            run.state(epoch=-1)
        with pytest.raises(KeyError, match="run 2 has 0 to 1 epochs, not 2"):
            benchmark.evaluate(run.genotype, epochs=2)


def test_metrics_are_read_by_epoch(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        run = benchmark.run(3)
        assert run.metric("valid_accuracy", epoch=0) == 0.03
        assert run.metric("valid_accuracy", epoch=-1) == run.metric("valid_accuracy", epoch=2)
        assert run.curve("train_loss").tolist() == [None, 1.5, 0.5]
        assert benchmark.array("train_loss").shape == (2, 3)
        assert benchmark.array("valid_accuracy", epoch=1).tolist() == [0.04, 0.06]
        assert benchmark.array("train_loss", epoch=0).tolist() == [None, None]


def test_a_metric_that_is_not_there_is_a_key_error(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        run = benchmark.run(3)
        with pytest.raises(KeyError, match="was not measured at epoch 0; it was at 1 to 2"):
            run.metric("train_loss", epoch=0)
        for epoch in (3, -2):
            with pytest.raises(KeyError, match=f"no epoch {epoch}: epochs are 0 to 2"):
                run.metric("valid_loss", epoch=epoch)
        with pytest.raises(KeyError, match="no metric 'accuracy': did you mean valid_accuracy, "):
            run.curve("accuracy")


def test_a_state_that_was_not_kept_is_a_key_error(make_shard: MakeShard) -> None:
    with Benchmark(make_shard("shard", [1], kept=(0, 2))) as benchmark:
        with pytest.raises(KeyError, match="epoch 1 was not kept; kept are 0, 2"):
            benchmark.run(1).state(epoch=1)
        assert benchmark.run(1).state(epoch=-1)


def test_the_top_is_by_metric_then_by_number_without_what_is_no_number(
    make_shard: MakeShard,
) -> None:
    with Benchmark(make_shard("shard", [1, 2, 3])) as benchmark:
        by_accuracy = benchmark.top(2, by="valid_accuracy", epoch=-1)
        assert [run.number for run in by_accuracy] == [3, 2]
        ties = benchmark.top(9, by="valid_loss", epoch=-1)
        assert [run.number for run in ties] == [1, 2, 3]
        assert benchmark.top(9, by="train_loss", epoch=0) == ()
        with pytest.raises(ValueError, match="k must be at least 0, got -1"):
            benchmark.top(-1, by="valid_loss", epoch=0)


def test_the_best_loss_is_the_lowest_and_the_best_time_the_shortest(
    make_shard: MakeShard,
) -> None:
    values = {1: 0.3, 2: 0.1, 3: 0.2}

    def measured(number: int, _epoch: int) -> dict[str, float]:
        names = ("valid_loss", "train_seconds", "test_accuracy", "learning_rate")
        return dict.fromkeys(names, values[number])

    with Benchmark(make_shard("shard", [1, 2, 3], metrics=measured)) as benchmark:
        for name in ("valid_loss", "train_seconds"):
            assert [run.number for run in benchmark.top(3, by=name, epoch=1)] == [2, 3, 1]
        assert [run.number for run in benchmark.top(3, by="test_accuracy", epoch=1)] == [1, 3, 2]
        with pytest.raises(ValueError, match="learning_rate has no better or worse"):
            benchmark.top(1, by="learning_rate", epoch=1)


def test_everything_fits_a_table(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        table = benchmark.to_dataframe()
    assert len(table) == 2 * 3
    assert set(METRICS) < set(table.columns)
    assert table["train_loss"].isna().tolist() == [True, False, False] * 2
    assert table["key"].tolist()[0] == sample_uniform(0, 3).key


def test_a_notebook_shows_facts_and_no_markup_of_the_file(make_shard: MakeShard) -> None:
    parts = {
        "network": {"layers": 8, "channels": 16},
        "images": {"name": "<script>", "num_classes": 10, "shape": [1, 8, 8]},
        "splits": {"train": {"size": 60}, "valid": {"size": 20}},
        "config": {"recipe": {"batch_size": 96, "learning_rate": 0.025}},
    }
    with Benchmark(make_shard("shown", [1, 2], provenance=json.dumps(parts))) as benchmark:
        shown = benchmark._repr_html_()
    assert "2 of 2 epochs" in shown
    assert "after epochs 0 to 2" in shown
    assert "8 cells of 16 channels" in shown
    assert "&lt;script&gt;, 10 classes" in shown
    assert "train 60, valid 20" in shown
    assert "<script>" not in shown


def test_texts_for_the_eye_are_short(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        run, name = benchmark[0], sample_uniform(0, 3).short_name
        assert repr(run) == f"<Run 3 of {shard}: {name}, seed 0>"
        assert repr(run.genotype) == f"<Genotype {name}>"


def test_what_was_returned_can_be_changed_without_changing_the_next_answer(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        run = benchmark.run(3)
        run.state(epoch=0)["scalar"][()] = 99
        assert run.state(epoch=0)["scalar"] != 99
        with pytest.raises(ValueError, match="read-only"):
            run.curve("valid_loss").data[0] = 99
        benchmark.provenance["config"]["plan"] = "another"
        run.environment(epoch=0)["device_name"] = "another"
        assert benchmark.provenance == {"config": {"plan": "fake"}}
        assert run.environment(epoch=0) == {"device_name": "abacus"}


def test_columns_that_were_read_outlive_the_benchmark(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        losses = benchmark.array("valid_loss", epoch=-1)
    assert losses.tolist() == [1.0, 1.0]


def test_what_was_not_read_before_closing_says_so(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        run = benchmark.run(3)
        run.state(epoch=0)
    for read in (
        lambda: run.state(epoch=1),
        lambda: run.curve("valid_loss"),
        lambda: benchmark.provenance,
        lambda: benchmark.schema_version,
    ):
        with pytest.raises(ValueError, match="was closed before this was read"):
            read()


def test_a_forgotten_benchmark_gives_its_files_back(shard: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc").exists() else 0
    for _ in range(20):
        Benchmark(shard).run(3).state(epoch=0)
    after = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc").exists() else 0
    assert after <= before + 2


def test_files_that_are_not_dtb_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.h5").write_text("loss 0.5")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = 1
    for name, message in (
        ("empty.h5", "is not an HDF5 file"),
        ("text.h5", "is not an HDF5 file"),
        ("plain.h5", "is an HDF5 file but not a DTB file"),
        (".", "is a folder"),
    ):
        with pytest.raises(NotDTBFileError, match=message):
            Benchmark(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(NotDTBFileError, match="or a device"):
        Benchmark(tmp_path / "pipe.h5")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Benchmark(tmp_path / "missing.h5")


def test_a_file_cut_anywhere_is_refused(shard: Path, tmp_path: Path) -> None:
    data = shard.read_bytes()
    for length in range(0, len(data), 997):
        cut = tmp_path / "cut.h5"
        cut.write_bytes(data[:length])
        with pytest.raises(DTBError):
            Benchmark(cut)


def test_a_volume_is_no_benchmark(shard: Path, tmp_path: Path) -> None:
    list(merge([shard], tmp_path / "dtb.h5", volume_size=1))
    with pytest.raises(NotDTBFileError, match=r"has no index.*commonly dtb\.h5"):
        Benchmark(next(tmp_path.glob("states-*.h5")))


def test_reading_needs_only_the_base_packages(shard: Path, tmp_path: Path) -> None:
    code = f"""
import sys
for name in ("torch", "ray", "hydra", "scipy", "hdf5plugin"):
    sys.modules[name] = None
from pathlib import Path
from dtb_builder import Benchmark, cli
from dtb_builder.dataset.salvage import SavedRun, salvage
bench = Benchmark({str(shard)!r})
bench.run(3).curve("valid_loss"); bench.array("valid_loss", epoch=0)
bench.run(3).state(epoch=1); bench.run(3).momentum(epoch=1)
folder = Path({str(tmp_path)!r})
print({{type(read) for read in salvage(bench.path, folder, plan="p")}} == {{SavedRun}})
print(cli.main(["verify", str(bench.path)]), sorted({{"pandas", "pyarrow"}} & set(sys.modules)))
print(cli.main(["export", str(bench.path), "--csv", str(folder / "table.csv")]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-3], lines[-1]) == ("True", "0 []", "0")


def test_other_readers_need_only_h5py_and_for_states_the_zstd_filter(shard: Path) -> None:
    code = f"""
import sys, h5py
with h5py.File({str(shard)!r}) as file:
    print(file["metrics/valid_loss"][:, 2].tolist(), "hdf5plugin" in sys.modules)
    import hdf5plugin
    state = file["states/00000005/whole"][0]
    name, rank, shape, offset = file["states/00000005/tensors"][1]
    print(name.decode(), state[offset : offset + shape[0]].tolist(), "dtb_builder" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    metrics, state = done.stdout.splitlines()
    with Benchmark(shard) as benchmark:
        expected = benchmark.run(5).state(epoch=0)["bn.weight"].tolist()
    assert metrics == "[1.0, 1.0] False"
    assert state == f"bn.weight {expected} False"


def test_columns_hold_whole_numbers_as_such(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        assert benchmark.seeds.dtype == benchmark.numbers.dtype == np.int64
        assert benchmark.num_parameters.tolist() == [30, 30]


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="HDF5's own tools are not installed")
def test_the_tools_of_hdf5_show_a_metric(shard: Path) -> None:
    command = ["h5dump", "-d", "/metrics/valid_loss", "-y", "-w", "0", str(shard)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "H5T_IEEE_F64LE" in shown
    assert "3, 2, 1," in " ".join(shown.split())


def test_one_metric_of_one_run_costs_the_same_in_a_large_benchmark(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks run by run must not pay for all runs each time."""
    with Benchmark(shard) as benchmark:
        measured = np.ones((1_000_000, 3), np.uint8).view(_Counted)
        monkeypatch.setitem(benchmark._store.index._arrays, "measured/valid_loss", measured)
        assert benchmark.run(3).metric("valid_loss", epoch=0) == 3.0
        assert benchmark.run(3).curve("valid_loss").tolist() == [3.0, 2.0, 1.0]
    assert _Counted.most_compared <= 3


class _Counted(np.ndarray):
    """Remembers how many numbers were compared at once."""

    most_compared = 0

    def __array_ufunc__(self, *args: object, **kwargs: object) -> object:
        _Counted.most_compared = max(_Counted.most_compared, self.size)
        plain = [np.asarray(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
        return super().__array_ufunc__(*plain, **kwargs)  # pyright: ignore[reportArgumentType]


def test_runs_are_selected_by_conditions_on_their_columns(make_shard: MakeShard) -> None:
    with Benchmark(make_shard("shard", [1, 2, 3])) as benchmark:
        good = benchmark.array("valid_accuracy", epoch=0) > 0.015
        assert [run.number for run in benchmark.select(good)] == [2, 3]
        assert [run.number for run in benchmark.select(good & (benchmark.numbers < 3))] == [2]
        unmeasured = benchmark.array("train_loss", epoch=0) > 0
        assert benchmark.select(unmeasured) == ()
        wrong: tuple[Any, ...] = (good[:2], benchmark.numbers)
        for mask in wrong:
            with pytest.raises(ValueError, match="expected a mask of 3 truth values, got"):
                benchmark.select(mask)


def test_the_genotypes_of_all_runs_are_an_array(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        assert [Genotype.from_array(array) for array in benchmark.genotypes] == [
            run.genotype for run in benchmark
        ]


def test_the_top_is_the_beginning_of_the_whole_order(make_shard: MakeShard) -> None:
    values = {1: 0.5, 2: 0.1, 3: 0.5, 4: 0.1, 5: 0.7, 6: 0.5}

    def measured(number: int, _epoch: int) -> dict[str, float]:
        return {"valid_loss": values[number], "test_accuracy": values[number]}

    with Benchmark(make_shard("shard", list(values), metrics=measured)) as benchmark:
        for name, order in (
            ("valid_loss", [2, 4, 1, 3, 6, 5]),
            ("test_accuracy", [5, 1, 3, 6, 2, 4]),
        ):
            for k in range(8):
                top = benchmark.top(k, by=name, epoch=0)
                assert [run.number for run in top] == order[:k]


def test_a_state_is_exported_for_other_tools(shard: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors", reason="needs the extra [export]")
    torch = pytest.importorskip("torch", reason="needs the extra [build]")
    with Benchmark(shard) as benchmark:
        run = benchmark.run(5)
        run.export(tmp_path / "state.safetensors", epoch=-1)
        run.export(tmp_path / "state.pt", step=5)
        last, within = run.state(epoch=-1), run.state(step=5)
        with pytest.raises(ValueError, match=r"\.safetensors or \.pt, got state\.npz"):
            run.export(tmp_path / "state.npz", epoch=1)
        with pytest.raises(KeyError, match="was not kept"):
            run.export(tmp_path / "state.pt", step=3)
    with safetensors.safe_open(tmp_path / "state.safetensors", "numpy") as file:
        assert {name: file.get_tensor(name).tolist() for name in file.keys()} == {  # noqa: SIM118
            name: array.tolist() for name, array in last.items()
        }
        about = {"genotype": str(sample_uniform(0, 5)), "run": "5", "step": "20"}
        assert file.metadata() == about | {"seed": "0", "order_seed": "0"}
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert {name: t.tolist() for name, t in loaded.items()} == {
        name: array.tolist() for name, array in within.items()
    }


def test_without_safetensors_it_says_what_to_install(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with (
        Benchmark(shard) as benchmark,
        pytest.raises(ModuleNotFoundError, match=r"pip install 'darts-training-bench\[export\]'"),
    ):
        benchmark.run(5).export(tmp_path / "state.safetensors", epoch=0)
    assert not list(tmp_path.glob("*.safetensors"))


def test_threads_that_read_while_it_is_closed_read_right_or_are_told(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        truth = {(3, e): benchmark.run(3).training_state(epoch=e).values.tobytes() for e in (0, 1)}
    for i in range(20):
        benchmark, others, wrong = Benchmark(shard), [], []

        def read(benchmark: Benchmark = benchmark, wrong: list[object] = wrong) -> None:
            for (number, epoch), values in truth.items():
                with contextlib.suppress(ClosedError):
                    found = benchmark.run(number).training_state(epoch=epoch).values.tobytes()
                    if found != values:
                        wrong.append(found)

        with ThreadPoolExecutor(8) as pool:
            done = [pool.submit(read) for _ in range(40)]
            time.sleep(0.0005 * (i % 8))
            benchmark.close()
            others += [shard.open("rb") for _ in range(20)]  # they take numbers that are free
            assert [each.exception() for each in done if each.exception()] == []
        for other in others:
            other.close()
        assert wrong == []
