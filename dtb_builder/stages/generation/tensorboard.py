"""Write the curves of finished runs for TensorBoard."""

from collections.abc import Iterator
from pathlib import Path

from dtb_builder.dataset.journal import read_journal
from dtb_builder.errors import ConfigError
from dtb_builder.stages.generation.driver import Event, RunFinished
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder

__all__ = ["curves_written"]


def curves_written(events: Iterator[Event], folder: RunFolder) -> Iterator[Event]:
    """Pass events on, and write the curves of each finished run to ``tensorboard/``.

    Raises:
        ConfigError: tensorboard is not installed.
    """
    try:
        import tensorboard  # noqa: F401 - said now, and not after the first run
    except ImportError as error:
        raise ConfigError("cluster.tensorboard needs the package tensorboard") from error
    for event in events:
        if isinstance(event, RunFinished):
            _write(folder, event.run, folder.path / "tensorboard" / f"run-{event.run.number:08d}")
        yield event


def _write(folder: RunFolder, run: PlannedRun, into: Path) -> None:
    """Replace the curves of a run; its journal exists until its shard is closed."""
    from torch.utils.tensorboard import SummaryWriter

    file = folder.journal_file(run)
    journal = read_journal(file) if file.exists() else None
    if journal is None:
        return
    for old in into.glob("events.*"):
        old.unlink()
    with SummaryWriter(into) as writer:
        writer.add_text("genotype", run.genotype)
        for epoch in journal.epochs:
            for name, value in epoch.metrics.items():
                writer.add_scalar(name, value, epoch.epoch)
