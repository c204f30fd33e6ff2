"""How fast shards are merged, beside `cp` of the same bytes on the same disk.

    python benchmarks/merge.py FOLDER [--mebibytes 256 1024]

FOLDER takes the shards, of states that are noise, and is emptied of them again. Both sides read
from the page cache and have their bytes reach the disk; a merge checks every checksum as well.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import (
    JournalRun,
    MomentFrames,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.verify import verify
from dtb_builder.record import METRICS, Moment, TensorTable
from dtb_builder.space import sample_uniform

TABLE = TensorTable(("weight",), ((265_000,),))
NUM_EPOCHS = 24
MOMENTS = [Moment(epoch, epoch) for epoch in range(NUM_EPOCHS + 1)]
PROVENANCE = '{"config": {"note": "noise"}}'


def main() -> None:
    """Print the table, or be the process that merges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mebibytes", type=int, nargs="*", default=[256, 1024])
    parser.add_argument("--turns", type=int, default=5, help="of each side, A B A B")
    parser.add_argument("--runs-per-shard", type=int, default=10, help="of 24 MiB each")
    parser.add_argument("--volume-size", type=int, help="bytes; only with --child")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(merged_here(arguments.folder, arguments.volume_size)))
        return
    print("| bytes | volumes | cp + fsync MB/s | merge MB/s | merge / cp | peak MiB | again |")
    print("|---|---|---|---|---|---|---|")
    for mebibytes in arguments.mebibytes:
        folder = arguments.folder / f"shards-{mebibytes}"
        write_shards(folder, mebibytes, arguments.runs_per_shard)
        for volume_size in (None, mebibytes * 2**18):
            print_row(folder, volume_size, arguments.turns)
        shutil.rmtree(folder)


def write_shards(folder: Path, mebibytes: int, runs_per_shard: int) -> None:
    """Shards of so many bytes together, through the real writer."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = number = shard = 0
    while written < mebibytes * 2**20:
        journals = []
        for _ in range(runs_per_shard):
            path = folder / f"{number}.journal"
            genotype = str(sample_uniform(0, number))
            open_journal(path, JournalRun(number, genotype, 0, 0, "noise", 1, 1, TABLE))
            for epoch in range(NUM_EPOCHS + 1):
                values = 0.05 * rng.standard_normal(TABLE.num_floats, np.float32)
                append_epoch(
                    path,
                    epoch=epoch,
                    metrics=dict.fromkeys(METRICS, 0.5),
                    environment={"device_name": "none"},
                    state_crc32c=codec.crc32c(values.data),
                    moments=[MomentFrames(MOMENTS[epoch], codec.encode(values))],
                )
            journals += [read for read in (read_journal(path),) if read is not None]
            number += 1
        target = folder / f"shard-{shard:05d}.h5"
        about = {"provenance": PROVENANCE, "num_epochs": NUM_EPOCHS, "moments": MOMENTS}
        write_shard(target, journals, **about)
        for journal in journals:
            journal.path.unlink()
        written += target.stat().st_size
        shard += 1


def print_row(folder: Path, volume_size: int | None, num_turns: int) -> None:
    """Copy and merge in turns, and print the medians."""
    shards = sorted(folder.glob("shard-*.h5"))
    num_bytes = sum(path.stat().st_size for path in shards)
    copying, merging, peaks, digests = [], [], [], set()
    for _ in range(num_turns):
        copying.append(copied(shards, folder / "copies"))
        for old in merged_files(folder):
            old.unlink()
        done = merged_in_child(folder, volume_size)
        merging.append(done["seconds"])
        peaks.append(done["peak_mib"])
        digests.add(tuple(digest(path) for path in merged_files(folder)))
    assert not [checked for checked in verify(folder / "dtb.h5") if checked.error]
    cp, ours = statistics.median(copying), statistics.median(merging)
    num_volumes = len(merged_files(folder)) - 1
    same = "the same bytes" if len(digests) == 1 else "OTHER BYTES"
    print(
        f"| {num_bytes / 2**20:.0f} MiB | {num_volumes or 'one file'} | {num_bytes / cp / 1e6:.0f} "
        f"| {num_bytes / ours / 1e6:.0f} | {cp / ours:.2f} | {max(peaks):.0f} | {same} |",
        flush=True,
    )


def merged_files(folder: Path) -> list[Path]:
    """The index and the volumes."""
    return sorted((*folder.glob("dtb.h5"), *folder.glob("states-*.h5")))


def copied(shards: list[Path], target: Path) -> float:
    """Seconds that cp takes, and that the copies take to reach the disk."""
    target.mkdir()
    begin = time.perf_counter()
    subprocess.run(["cp", *shards, target], check=True)
    subprocess.run(["sync", *target.iterdir()], check=True)
    seconds = time.perf_counter() - begin
    shutil.rmtree(target)
    return seconds


def merged_in_child(folder: Path, volume_size: int | None) -> dict[str, float]:
    """A merge in a process of its own, whose memory is all its own."""
    command = [sys.executable, __file__, str(folder), "--child"]
    command += [] if volume_size is None else ["--volume-size", str(volume_size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def merged_here(folder: Path, volume_size: int | None) -> dict[str, float]:
    """Merge; the seconds it took, Python's start apart, and the most memory that was used."""
    begin = time.perf_counter()
    for _ in merge(sorted(folder.glob("shard-*.h5")), folder / "dtb.h5", volume_size=volume_size):
        pass
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "peak_mib": peak_mib()}


def peak_mib() -> float:
    """The most memory that this process has used."""
    lines: Iterator[str] = iter(Path("/proc/self/status").read_text().splitlines())
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def digest(path: Path) -> str:
    """A file's name and content."""
    with path.open("rb") as file:
        return path.name + file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
