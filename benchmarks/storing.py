"""What storing an epoch costs beside an epoch of ten seconds.

    python benchmarks/storing.py [--folder FOLDER]

For each network: capturing and compressing the state, the checkpoint to go on from, and the record
in the journal, each safe on the disk of FOLDER as `dtb generate` does it.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

sys.path.insert(0, str(Path(__file__).parent.parent))

from dtb_builder.dataset import codec
from dtb_builder.dataset.atomic import write_whole
from dtb_builder.dataset.journal import JournalRun, MomentFrames, append_epoch, open_journal
from dtb_builder.network import NetworkSpec
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.record import Moment
from dtb_builder.space import sample_uniform
from dtb_builder.training import environment
from dtb_builder.training.finished import FinishedEpoch
from dtb_builder.training.resume import Checkpoint
from dtb_builder.training.setup import set_up_torch

SIZES = ((8, 5, False), (16, 8, True), (32, 8, True), (36, 20, True))
EPOCH_SECONDS = 10.0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument(
        "--networks", type=int, default=len(SIZES), help="how many, small ones first"
    )
    arguments = parser.parse_args()
    set_up_torch(threads=1, deterministic=True)
    print("  ".join(f"{name}={value}" for name, value in environment("cpu").items()))
    print(f"\nmilliseconds per epoch, median of {arguments.turns}")
    print("| network | MB | capture | encode | checkpoint | journal | sum | of a 10 s epoch |")
    print("|---|---|---|---|---|---|---|---|")
    for channels, layers, auxiliary in SIZES[: arguments.networks]:
        spec = NetworkSpec(
            channels=channels, layers=layers, num_classes=10, image_size=32, auxiliary=auxiliary
        )
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            seconds = stored(spec, Path(folder), arguments.turns)
        num_bytes = 4 * tensor_table(spec.build(sample_uniform(seed=0, index=0))).num_floats
        medians = [1000 * statistics.median(times) for times in seconds.values()]
        cells = " | ".join(f"{value:.1f}" for value in [num_bytes / 1e6, *medians, sum(medians)])
        share = sum(medians) / 1000 / EPOCH_SECONDS
        print(f"| C={channels} L={layers} | {cells} | {share:.2%} |", flush=True)


def stored(spec: NetworkSpec, folder: Path, num_turns: int) -> dict[str, list[float]]:
    """Seconds of each part in each turn but the first, which warms up."""
    genotype = sample_uniform(seed=0, index=0)
    network = spec.build(genotype)
    optimizer = SGD(network.parameters(), lr=0.01, momentum=0.9)
    scheduler = CosineAnnealingLR(optimizer, T_max=num_turns)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    facts = environment("cpu")
    journal = folder / "run.journal"
    about = JournalRun(0, str(genotype), 0, 0, "0" * 64, 1, 1, tensor_table(network))
    open_journal(journal, about)
    seconds: dict[str, list[float]] = defaultdict(list)
    for epoch in range(num_turns + 1):
        finished = FinishedEpoch(epoch, {"valid_accuracy": 0.5}, network, optimizer, scheduler, {})
        clock = [time.perf_counter()]
        state = capture(network)
        clock.append(time.perf_counter())
        frame = codec.encode(state.values)
        clock.append(time.perf_counter())
        write_whole(folder / f"{epoch}.checkpoint", Checkpoint.capture(finished).to_bytes())
        clock.append(time.perf_counter())
        append_epoch(
            journal,
            epoch=epoch,
            metrics=finished.metrics,
            environment=facts,
            state_crc32c=codec.crc32c(state.values.data),
            moments=[MomentFrames(Moment(epoch, epoch), frame)],
        )
        clock.append(time.perf_counter())
        if epoch:
            names = ("capture", "encode", "checkpoint", "journal")
            for name, begin, end in zip(names, clock, clock[1:], strict=False):
                seconds[name].append(end - begin)
    return seconds


if __name__ == "__main__":
    main()
