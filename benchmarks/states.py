"""How large training states are, and how fast they are written and read, beside other formats.

    python benchmarks/states.py FOLDER --train     trains three DARTS networks on the digits
    python benchmarks/states.py FOLDER             prints the tables
    python benchmarks/states.py FOLDER --replay    trains runs under three ways to keep states, and
                                                   prints bytes and seconds of making others again

Needs `pip install safetensors`. Every format holds the same named float32 tensors; nothing waits
for the disk, and reads are from the page cache.
"""

import argparse
import dataclasses
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from dtb_builder import NAMED, Benchmark
from dtb_builder.cli import main as main_of_dtb
from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import (
    JournalRun,
    MomentFrames,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.shard import write_shard
from dtb_builder.images import load_images, stratified_split
from dtb_builder.network.network import Network
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.record import TensorTable, TrainingState
from dtb_builder.stages.generation.state_frames import StateEncoder
from dtb_builder.stages.settings.conf import read_conf
from dtb_builder.stages.settings.states import StatesConfig
from dtb_builder.training import Recipe
from dtb_builder.training.evaluation import evaluate
from dtb_builder.training.loop import train
from dtb_builder.training.resident import ResidentImages, make_resident
from dtb_builder.training.setup import set_up_torch

GENOTYPE = NAMED["DARTS_V2"]
SIZES = {"0.4 MB": (14, 5, 40), "1 MB": (16, 8, 40), "12 MB": (34, 20, 40), "smallest": (2, 2, 6)}
"""Channels, layers and epochs of each network; the last only shows that all of this runs."""
KEY_EVERY = 3
NUM_STEPS = 4
"""Of an epoch over the 384 digits."""

NUM_READ = 6
"""States of a run that are written and read in a turn."""


def main() -> None:
    """Train, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--replay", action="store_true")
    parser.add_argument("--runs", type=int, default=3, help="of --replay")
    parser.add_argument("--epochs", type=int, default=40, help="of --replay, at least 10")
    parser.add_argument("--turns", type=int, default=7, help="of every format, A B C D A B C D")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES)[:-1])
    arguments = parser.parse_args()
    if arguments.replay:
        print_replays(arguments.folder, arguments.runs, arguments.epochs)
        return
    set_up_torch(threads=1, deterministic=True)
    if arguments.train:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        for size in arguments.sizes:
            train_and_store(arguments.folder, size)
        return
    print_speed(arguments.folder, arguments.sizes, arguments.turns)
    print_bytes(arguments.folder, arguments.sizes)
    print_rounding(arguments.folder, arguments.sizes)


# The networks.


def network_of(size: str) -> Network:
    """A network of one of SIZES, initialised from seed 0."""
    channels, layers, _ = SIZES[size]
    spec = NetworkSpec(
        channels=channels, layers=layers, num_classes=10, input_channels=1, image_size=8
    )
    torch.manual_seed(0)
    return Network(GENOTYPE, spec)


def recipe_of(size: str) -> Recipe:
    """NB301's recipe for eight-pixel images, its cosine over the epochs of the size."""
    return dataclasses.replace(
        Recipe(**read_conf("recipe/nb301")),
        num_epochs=SIZES[size][2],
        auxiliary_weight=0.0,
        crop_padding=1,
        horizontal_flip=False,
        cutout_length=2,
    )


def digits() -> ResidentImages:
    """The digits, 384 to train on, that is four steps an epoch, and 200 for validation."""
    images = load_images("digits", None)
    split = stratified_split(images.train_labels, 200, 0, num_train=384)
    return make_resident(images, split, "cpu")


def train_and_store(folder: Path, size: str) -> None:
    """Train a run to its end and close its shard, through the real writers."""
    network, path = network_of(size), folder / f"{size}.journal"
    path.unlink(missing_ok=True)
    open_journal(path, about(tensor_table(network)))
    moments = StatesConfig(epochs="all").moments(recipe_of(size).num_epochs, NUM_STEPS)
    for finished in train(network, digits(), recipe_of(size), seed=0):
        state = capture(network)
        append_epoch(
            path,
            epoch=finished.epoch,
            metrics=finished.metrics,
            environment={"device_name": "none"},
            state_crc32c=codec.crc32c(state.values.data),
            moments=[MomentFrames(moments[finished.epoch], codec.encode(state.values))],
        )
        print(size, finished.epoch, finished.metrics["valid_accuracy"], flush=True)
    journal = read_journal(path)
    assert journal is not None
    write_shard(
        folder / f"{size}.h5",
        [journal],
        provenance="{}",
        num_epochs=recipe_of(size).num_epochs,
        moments=moments,
    )


def store_differences(folder: Path, size: str) -> Benchmark:
    """The same run once more, with differences to every third state, through the real writers."""
    tensors, states = states_of(folder, size)
    path, last = folder / f"{size}.differences.journal", len(states) - 1
    path.unlink(missing_ok=True)
    moments = StatesConfig(epochs="all", key_every=KEY_EVERY).moments(last, NUM_STEPS)
    encoder = StateEncoder(moments, open_journal(path, about(tensors)))
    for epoch, state in enumerate(states):
        append_epoch(
            path,
            epoch=epoch,
            metrics={},
            environment={"device_name": "none"},
            state_crc32c=codec.crc32c(state.values.data),
            moments=[encoder.frames(state)],
        )
    journal = read_journal(path)
    assert journal is not None
    shard = folder / f"{size}.differences.h5"
    write_shard(shard, [journal], provenance="{}", num_epochs=last, moments=moments)
    return Benchmark(shard)


def about(tensors: TensorTable) -> JournalRun:
    """The one run."""
    return JournalRun(0, str(GENOTYPE), 0, 0, "bench", 0, 0, tensors)


def bases(key_every: int, num_states: int) -> dict[int, int]:
    """The epochs that are differences, each with its base's, where every state is kept."""
    moments = StatesConfig(epochs="all", key_every=key_every).moments(num_states - 1, NUM_STEPS)
    return {i: moment.base for i, moment in enumerate(moments) if moment.base is not None}


def states_of(folder: Path, size: str) -> tuple[TensorTable, list[TrainingState]]:
    """The tensor table of a trained run, and its state after every epoch."""
    with Benchmark(folder / f"{size}.h5") as benchmark:
        run = benchmark.run(0)
        return run.tensors, [run.training_state(epoch=epoch) for epoch in run.state_epochs]


# Speed.


@dataclasses.dataclass(frozen=True)
class Format:
    """A way to keep states.

    Attributes:
        write: takes the number of a state and its named tensors; returns bytes written.
        read: takes the number of a state; returns its named arrays.
    """

    write: Callable[[int, dict[str, NDArray[np.float32]]], int]
    read: Callable[[int], dict[str, NDArray[np.float32]]]


def formats(
    folder: Path, size: str, tensors: TensorTable, states: list[TrainingState]
) -> dict[str, Format]:
    """This package and its peers, each with files of its own."""
    from safetensors.numpy import (  # pyright: ignore[reportMissingImports]
        load_file,
        save_file,
    )

    benchmark = Benchmark(folder / f"{size}.h5")
    run, run_of_differences = benchmark.run(0), store_differences(folder, size).run(0)
    keys = bases(KEY_EVERY, len(states))
    per_tensor = h5py.File(folder / f"{size}.tensors.h5", "w", libver="latest")

    def write_dtb(number: int, named: dict[str, NDArray[np.float32]]) -> int:
        # What a worker does, but for fdatasync; the packed vector is what capture gives it.
        packed = np.concatenate([array.reshape(-1) for array in named.values()])
        return (folder / f"{number}.frame").write_bytes(codec.encode(packed))

    def write_difference(number: int, named: dict[str, NDArray[np.float32]]) -> int:
        key = keys.get(number)
        if key is None:
            return write_dtb(number, named)
        packed = np.concatenate([array.reshape(-1) for array in named.values()])
        difference = codec.encode_difference(packed, states[key].values)
        return (folder / f"{number}.frame").write_bytes(difference)

    def write_torch(number: int, named: dict[str, NDArray[np.float32]]) -> int:
        path = folder / f"{number}.pt"
        torch.save({name: torch.from_numpy(array) for name, array in named.items()}, path)
        return path.stat().st_size

    def read_torch(number: int) -> dict[str, NDArray[np.float32]]:
        loaded = torch.load(folder / f"{number}.pt", weights_only=True)
        return {name: tensor.numpy() for name, tensor in loaded.items()}

    def write_safetensors(number: int, named: dict[str, NDArray[np.float32]]) -> int:
        path = folder / f"{number}.safetensors"
        save_file(named, path)
        return path.stat().st_size

    def write_per_tensor(number: int, named: dict[str, NDArray[np.float32]]) -> int:
        if str(number) in per_tensor:
            del per_tensor[str(number)]
        group = per_tensor.create_group(str(number))
        for name, array in named.items():
            group.create_dataset(name, data=array)
        per_tensor.flush()
        return sum(group[name].id.get_storage_size() for name in named)

    def read_per_tensor(number: int) -> dict[str, NDArray[np.float32]]:
        return {name: np.asarray(per_tensor[f"{number}/{name}"]) for name in tensors.names}

    return {
        "DTB": Format(write_dtb, lambda number: run.state(epoch=number)),
        f"DTB, key_every={KEY_EVERY}": Format(
            write_difference, lambda number: run_of_differences.state(epoch=number)
        ),
        "torch.save": Format(write_torch, read_torch),
        "safetensors": Format(
            write_safetensors, lambda number: load_file(folder / f"{number}.safetensors")
        ),
        "HDF5, one dataset per tensor": Format(write_per_tensor, read_per_tensor),
    }


def print_speed(folder: Path, sizes: list[str], num_turns: int) -> None:
    """Write and read states in every format in turns."""
    print("| state | format | bytes / raw | write ms | read ms | read / safetensors | requests |")
    print("|---|---|---|---|---|---|---|")
    for size in sizes:
        tensors, states = states_of(folder, size)
        chosen = np.linspace(0, len(states) - 1, NUM_READ).round().astype(int).tolist()
        num_raw = tensors.num_floats * 4 * NUM_READ
        kinds = formats(folder, size, tensors, states)
        writes = {name: [] for name in kinds}
        reads = {name: [] for name in kinds}
        num_bytes: dict[str, int] = {}
        for _ in range(num_turns):
            for name, kind in kinds.items():
                num_bytes[name] = 0
                for number in chosen:
                    named = tensors.unpack(states[number].values)
                    begin = time.perf_counter()
                    num_bytes[name] += kind.write(number, named)
                    writes[name].append(1e3 * (time.perf_counter() - begin))
            for name, kind in kinds.items():
                for number in chosen:
                    begin = time.perf_counter()
                    loaded = kind.read(number)
                    reads[name].append(1e3 * (time.perf_counter() - begin))
                    check_equal(loaded, tensors.unpack(states[number].values))
        peer = statistics.median(reads["safetensors"])
        for name, kind in kinds.items():
            read = statistics.median(reads[name])
            print(
                f"| {tensors.num_floats * 4 / 1e6:.2f} MB, {len(tensors.names)} tensors | {name} "
                f"| {num_bytes[name] / num_raw:.3f} | {statistics.median(writes[name]):.2f} "
                f"| {read:.2f} | {read / peer:.2f} | {num_requests(kind, chosen[1])} |",
                flush=True,
            )


def check_equal(
    loaded: dict[str, NDArray[np.float32]], named: dict[str, NDArray[np.float32]]
) -> None:
    """See that a format gives back what it was given."""
    assert loaded.keys() == named.keys()
    assert all(np.array_equal(loaded[name], named[name]) for name in named)


def num_requests(kind: Format, number: int) -> int:
    """Read calls to the operating system that a warm read of one state makes."""
    kind.read(number)
    own = -read_calls() + read_calls()
    before = read_calls()
    kind.read(number)
    return read_calls() - before - own


def read_calls() -> int:
    """Read calls that this process has made so far, this one's own included."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("syscr")).split()[1])


# Bytes.


def print_bytes(folder: Path, sizes: list[str]) -> None:
    """The bytes of a whole run under every option, as a ratio to raw float32 and to torch.save."""
    print("\n| state | option | raw / stored | stored / torch.save | start | middle | end |")
    print("|---|---|---|---|---|---|---|")
    for size in sizes:
        tensors, states = states_of(folder, size)
        vectors = [state.values for state in states]
        raw = np.array([4 * tensors.num_floats] * len(vectors))
        saved = np.array([torch_bytes(tensors, vector) for vector in vectors])
        for name, option in OPTIONS.items():
            stored = np.array(option(vectors))
            parts = np.array_split(raw / stored, 3)
            print(
                f"| {raw[0] / 1e6:.2f} MB, {len(vectors)} epochs | {name} "
                f"| {raw.sum() / stored.sum():.3f} | {stored.sum() / saved.sum():.3f} | "
                + " | ".join(f"{part.mean():.2f}" for part in parts)
                + " |",
                flush=True,
            )


def torch_bytes(tensors: TensorTable, vector: NDArray[np.float32]) -> int:
    """Bytes of a state as torch.save writes it."""
    buffer = io.BytesIO()
    named = tensors.unpack(vector)
    torch.save({name: torch.from_numpy(array.copy()) for name, array in named.items()}, buffer)
    return buffer.getbuffer().nbytes


def plain(vectors: list[NDArray[np.float32]]) -> list[int]:
    """Bytes of every state on its own."""
    return [len(codec.encode(vector)) for vector in vectors]


def rounded(vectors: list[NDArray[np.float32]]) -> list[int]:
    """Bytes of every state in bfloat16."""
    return [len(codec.encode(codec.bfloat16(vector))) for vector in vectors]


def differences(key_every: int) -> Callable[[list[NDArray[np.float32]]], list[int]]:
    """Bytes when the first of so many states is whole and the others are differences to it."""

    def coded(vectors: list[NDArray[np.float32]]) -> list[int]:
        sizes = plain(vectors)
        for epoch, key in bases(key_every, len(vectors)).items():
            sizes[epoch] = len(codec.encode_difference(vectors[epoch], vectors[key]))
        return sizes

    return coded


OPTIONS: dict[str, Callable[[list[NDArray[np.float32]]], list[int]]] = {
    "float32": plain,
    "bfloat16": rounded,
    "key_every=2": differences(2),
    "key_every=3": differences(3),
    "key_every=5": differences(5),
    "bfloat16, key_every=3": lambda vectors: differences(3)(list(map(codec.bfloat16, vectors))),
}


def print_rounding(folder: Path, sizes: list[str]) -> None:
    """What bfloat16 changes of the accuracy on the test digits, over all epochs of a run."""
    print("\n| state | largest change of accuracy | mean | largest relative change of loss |")
    print("|---|---|---|---|")
    data = digits()
    for size in sizes:
        network = network_of(size).eval()
        _, states = states_of(folder, size)
        accuracies, losses = [], []
        for state in states[1:]:
            found = []
            for values in (state.values, codec.bfloat16(state.values)):
                restore_into(network, values, state.num_batches_tracked)
                found.append(evaluate(network, data.test, data))
            accuracies.append(abs(found[0].accuracy - found[1].accuracy))
            losses.append(abs(found[0].loss - found[1].loss) / found[0].loss)
        print(
            f"| {size} | {100 * max(accuracies):.2f} points | {100 * np.mean(accuracies):.3f} "
            f"| {100 * max(losses):.2f} % |",
            flush=True,
        )


KEPT = {
    "all": ("states.epochs=all",),
    "all, key_every=3": ("states.epochs=all", "states.key_every=3"),
    "every tenth, with momentum": ("states.epochs=EVERY_TENTH", "states.momentum=all"),
}
"""Which states of a training are kept, as settings."""


def print_replays(folder: Path, num_runs: int, num_epochs: int) -> None:
    """Bytes of the same training under each of KEPT, and what making its other states again takes.

    The network has 8 channels in 3 cells; the training is the default's, a cosine over all epochs.
    """
    every_tenth = "[" + ",".join(map(str, range(0, num_epochs + 1, 10))) + "]"
    sizes, shards = {}, {}
    for name, settings in KEPT.items():
        path = folder / name.replace(",", "").replace(" ", "-").replace("=", "-")
        command = [
            *("generate", str(path), "images=digits", "network.channels=8", "network.layers=3"),
            *(f"recipe.num_epochs={num_epochs}", f"space.num_genotypes={num_runs}"),
            *(f"shard_size={num_runs}", "cluster=serial"),
            *(setting.replace("EVERY_TENTH", every_tenth) for setting in settings),
        ]
        assert main_of_dtb(command) == 0
        shards[name] = path / "shards" / "shard-00000.h5"
        sizes[name] = shards[name].stat().st_size
    print("\n| kept | bytes of a run | of all |\n|---|---|---|")
    for name, size in sizes.items():
        print(f"| {name} | {size / num_runs:,.0f} | {size / sizes['all']:.3f} |")
    seconds: dict[int, list[float]] = {}
    train_seconds = []
    with Benchmark(shards["every tenth, with momentum"]) as benchmark:
        for run in benchmark:
            train_seconds += run.curve("train_seconds").compressed().tolist()
            benchmark.run(run.number).replay(epoch=1)  # what a process does once
            for epoch in range(1, num_epochs + 1):
                found = run.replay(epoch=epoch)
                assert found.is_same, found.verdict
                seconds.setdefault(epoch - found.start, []).append(found.seconds)
    print("\n| epochs to train again | replays | median seconds | longest |\n|---|---|---|---|")
    for distance, taken in sorted(seconds.items()):
        print(f"| {distance} | {len(taken)} | {statistics.median(taken):.2f} | {max(taken):.2f} |")
    every = [second for taken in seconds.values() for second in taken]
    print(
        f"\nall {len(every)} have the bits of the training; median {statistics.median(every):.2f}"
    )
    print(f"an epoch's training took {statistics.median(train_seconds):.3f} seconds")


def restore_into(network: Network, values: NDArray[np.float32], num_batches: int) -> None:
    """Put a state into a network."""
    from dtb_builder.network.state import restore

    restore(network, TrainingState(values, num_batches))


if __name__ == "__main__":
    main()
