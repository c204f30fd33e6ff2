"""The command that writes the cluster launchers, as files to edit and submit."""

import argparse
import shutil
from pathlib import Path
from typing import Any

from dtb_builder.commands.adding import add_command, named
from dtb_builder.errors import ConfigError

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add them to the command line."""
    jobs = add_command(
        commands,
        "jobs",
        _jobs,
        "Write the launchers for Slurm, Kubernetes and clouds.",
        "--into jobs",
    )
    jobs.add_argument("--into", metavar="FOLDER", type=named, required=True, help="a new folder")


def _jobs(given: argparse.Namespace) -> int:
    from importlib.resources import as_file, files

    into: Path = given.into
    if into.exists():
        raise ConfigError(f"{into} exists already: choose a new folder")
    with as_file(files("dtb_builder.jobs")) as source:
        shutil.copytree(source, into, ignore=shutil.ignore_patterns("__init__.py", "__pycache__"))
    for file in sorted(path for path in into.rglob("*") if path.is_file()):
        if file.read_bytes().startswith(b"#!"):
            file.chmod(0o755)  # an archive may have lost the mode
        print(file)
    print(f"submit from {into.absolute().parent} if the folder is named jobs, or set DTB_JOBS")
    return 0
