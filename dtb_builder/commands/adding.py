"""Helpers to add commands to the command line."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

__all__ = ["add_command", "add_folder_command", "here", "target"]

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
    sub.add_argument("run_folder", metavar="RUN_FOLDER", type=Path)
    sub.add_argument("settings", metavar="SETTING", nargs="*", help="key=value or group=name")
    return sub


def here(text: str) -> Path:
    """The path of a local file; a URL is refused."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is a URL: download it first (only info, query and export read URLs)"
        )
    return Path(text)


def target(text: str) -> Path:
    """The path of a file to write, which may exist; but a benchmark is never overwritten."""
    if h5py.is_hdf5(text):
        raise argparse.ArgumentTypeError(f"{text} is an HDF5 file: choose another name")
    return Path(text)
