"""How fast stored states are read one after the other, beside reading and inflating their frames.

    python benchmarks/bulk.py FILE ...            of benchmarks
    python benchmarks/bulk.py --make FOLDER       makes two to read: of 0.4 MB and of 12 MB a state

The floor reads the same frames in the order of the file, with one read each, and makes floats of
them, in one thread; it checks nothing but zstd's own checksum. From the page cache.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from dtb_builder import NAMED, Benchmark
from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import (
    JournalRun,
    MomentFrames,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.store import Store
from dtb_builder.network import NetworkSpec
from dtb_builder.network.initial import initial_network
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.record import Moment
from dtb_builder.space import Genotype

MADE = {"0.4MB": (14, 5, 12, 20), "12MB": (34, 20, 4, 3)}
"""Channels, layers, runs and states of each."""


def main() -> None:
    """Make the files, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", metavar="FILE", type=Path, nargs="*")
    parser.add_argument("--make", metavar="FOLDER", type=Path)
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.make is not None:
        arguments.make.mkdir(parents=True, exist_ok=True)
        for name, sizes in MADE.items():
            make(arguments.make / f"{name}.h5", *sizes)
        return
    print("| states | MB each | floor, states/s | bench.states() | of the floor | one by one |")
    print("|---|---|---|---|---|---|")
    for file in arguments.files:
        print(row_of(file, arguments.turns))


def row_of(file: Path, turns: int) -> str:
    """The line of a file; the best of the turns, which the three ways take in turn."""
    with Benchmark(file) as bench:
        states = bench.states()
        num_bytes = sum(run.tensors.num_floats * 4 for run, _ in states.places())
        ways: list[Callable[[], int]] = [
            floor_of(file),
            lambda: sum(1 for _ in bench.states()),
            lambda: sum(1 for i in range(len(states)) if states[i] is not None),
        ]
        seconds: list[list[float]] = [[] for _ in ways]
        for _ in range(turns):
            for way, taken in zip(ways, seconds, strict=True):
                begin = time.perf_counter()
                assert way() == len(states)
                taken.append(time.perf_counter() - begin)
    floor, ahead, single = (len(states) / min(taken) for taken in seconds)
    share = ahead / floor
    each = num_bytes / len(states) / 1e6
    return (
        f"| {len(states)} | {each:.2f} | {floor:.0f} | {ahead:.0f} | {share:.2f} | {single:.0f} |"
    )


def floor_of(file: Path) -> Callable[[], int]:
    """Reads and inflates every whole state of a file, and counts them."""
    store = Store(file)
    frames = []
    for row in range(store.index.num_runs):
        places = store.states.places(row)
        for position, length in enumerate(places.length.tolist()):
            if length:
                frames.append((int(places.offset[position]), length, places.num_floats))
    frames.sort()

    def read() -> int:
        descriptor = os.open(file, os.O_RDONLY)
        for offset, length, num_floats in frames:
            codec.decode(os.pread(descriptor, length, offset), num_floats=num_floats)
        os.close(descriptor)
        return len(frames)

    return read


def make(file: Path, channels: int, layers: int, num_runs: int, num_states: int) -> None:
    """A shard of initialised networks, whose states are as hard to compress as trained ones."""
    genotype: Genotype = NAMED["DARTS_V2"]
    spec = NetworkSpec(
        channels=channels, layers=layers, num_classes=10, input_channels=3, image_size=32
    )
    tensors = tensor_table(initial_network(genotype, spec, 0))
    moments = [Moment(epoch, epoch) for epoch in range(num_states)]
    journals = []
    for number in range(num_runs):
        path = file.with_name(f"{file.stem}-{number}.journal")
        path.unlink(missing_ok=True)
        open_journal(path, JournalRun(number, str(genotype), number, 0, "bulk", 0, 0, tensors))
        for epoch in range(num_states):
            state = capture(initial_network(genotype, spec, num_states * number + epoch))
            append_epoch(
                path,
                epoch=epoch,
                metrics={},
                environment={"device_name": "none"},
                state_crc32c=codec.crc32c(state.values.data),
                moments=[MomentFrames(moments[epoch], codec.encode(state.values))],
            )
        journals.append(read_journal(path))
    write_shard(file, journals, provenance="{}", num_epochs=num_states - 1, moments=moments)
    for journal in journals:
        journal.path.unlink()


if __name__ == "__main__":
    main()
