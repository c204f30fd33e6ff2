"""Helpers to add commands to the command line; nothing heavy is imported before a command runs."""

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtb_builder.errors import ConfigError
from dtb_builder.shown import masked

if TYPE_CHECKING:
    from dtb_builder.dataset.source import Location

__all__ = [
    "add_command",
    "add_settings",
    "benchmark",
    "benchmark_in",
    "completed",
    "here",
    "named",
    "numbers",
    "run_folder",
    "source",
    "target",
]

Command = Callable[[Any], int]
"""Takes the given arguments; returns the exit code."""


def add_command(
    commands: Any, name: str, command: Command, text: str, example: str
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        commands: argparse's object of all commands.
        name: the command's name.
        command: does its work.
        text: what it does, in one line.
        example: what follows ``dtb`` and the name, on one or more lines.
    """
    examples = "\n".join(f"  dtb {name} {line}" for line in example.splitlines())
    sub = commands.add_parser(
        name,
        description=text,
        epilog=f"example:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(command=command, verb=name, conf_file=None)
    return sub


def add_settings(sub: argparse.ArgumentParser, root: str, text: str) -> None:
    """Let a command take settings.

    Args:
        sub: the command.
        root: the file of ``conf/`` that has the settings.
        text: what they are, for the help.
    """

    def complete(**_: Any) -> list[str]:
        from dtb_builder.commands.composing import known_settings

        known = known_settings(root)
        return [f"{key}=" for key, choices in known.items() if not choices] + [
            f"{group}={choice}" for group, choices in known.items() for choice in choices
        ]

    sub.set_defaults(conf_file=root)
    completed(
        sub.add_argument("settings", metavar="SETTING", nargs="*", default=(), help=text), complete
    )


def completed(argument: argparse.Action, complete: Callable[..., Iterable[str]]) -> None:
    """Let a shell complete an argument with these texts."""
    argument.completer = complete  # type: ignore[attr-defined] # argcomplete's own attribute


def here(text: str) -> Path:
    """The path of a local file or folder; a URL is refused, and so is an empty name."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{masked(text)} is a URL: download it first (only info, query and export read URLs)"
        )
    return named(text)


def named(text: str) -> Path:
    """A path; an empty name, which is that of the current folder, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return Path(text)


def run_folder(text: str) -> Path:
    """The path of a run folder; a setting is refused, since the folder was forgotten before it."""
    if re.match(r"[a-z_.]+=", text) and not Path(text).exists():
        raise argparse.ArgumentTypeError(
            f"{text} is a setting: name a folder before it (or write ./{text})"
        )
    return named(text)


def benchmark(text: str) -> Path:
    """The path of a local benchmark: a file, or the folder with its dtb.h5."""
    try:
        return benchmark_in(here(text))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def benchmark_in(path: Path) -> Path:
    """The benchmark of a folder; another path as it is.

    Raises:
        ConfigError: the folder has none, or not yet.
    """
    if not path.is_dir():
        return path
    from dtb_builder.stages.generation.run_folder import RunFolder

    folder = RunFolder(path)
    if folder.benchmark_file.exists():
        return folder.benchmark_file
    if folder.is_planned:
        raise ConfigError(f"{path} is not merged yet: dtb merge {path} makes its benchmark")
    raise ConfigError(f"{path} is a folder without {folder.benchmark_file.name}")


def source(text: str) -> "Location":
    """A benchmark here, or a URL."""
    if "://" not in text:
        return benchmark(text).absolute()
    from dtb_builder.dataset.source import located

    return located(text)


def target(text: str) -> Path:
    """The path of a file to write, which may exist; but a benchmark is never overwritten."""
    path = named(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: name a file in it")
    if path.is_file():  # HDF5 would wait for the writer of a pipe
        import h5py

        if h5py.is_hdf5(text):
            raise argparse.ArgumentTypeError(f"{text} is an HDF5 file: choose another name")
    return path


def numbers(text: str) -> list[int]:
    """The numbers of a text such as ``0-9,12``, for ``--runs``.

    Raises:
        ConfigError: the text has another form.
    """
    from dtb_builder.stages.settings.shard_range import ShardRange

    listed: list[int] = []
    try:
        for part in text.split(","):
            span = ShardRange.parse(part.strip())
            listed += range(span.first, span.last + 1)
    except ValueError as error:
        raise ConfigError(f"--runs must be numbers such as 0-9 or 0,4, got {text!r}") from error
    return listed
