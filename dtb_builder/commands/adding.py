"""Helpers to add commands to the command line."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from dtb_builder.errors import ConfigError
from dtb_builder.shown import masked

__all__ = ["add_command", "add_folder_command", "here", "named", "numbers", "target"]

Command = Callable[[Any], int]
"""Takes the given arguments; returns the exit code."""


def add_command(commands: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    """Add a command."""
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(command=command, name=name)
    return sub


def add_folder_command(
    commands: Any, name: str, command: Command, text: str
) -> argparse.ArgumentParser:
    """Add a command that takes a folder and settings."""
    sub = add_command(commands, name, command, text)
    sub.add_argument("run_folder", metavar="RUN_FOLDER", type=named)
    sub.add_argument("settings", metavar="SETTING", nargs="*", help="key=value or group=name")
    return sub


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


def target(text: str) -> Path:
    """The path of a file to write, which may exist; but a benchmark is never overwritten."""
    path = named(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: name a file in it")
    if path.is_file() and h5py.is_hdf5(text):  # HDF5 would wait for the writer of a pipe
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
