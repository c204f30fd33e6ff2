"""An error's traceback as a file may keep it that is published later."""

import re
import sys
import traceback
from pathlib import Path

__all__ = ["traceback_text"]

_FILE = re.compile(r'(?<=File ")[^"\n]+(?=", line )')
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")


def traceback_text(error: BaseException) -> str:
    """An error's traceback, which names no folder of this machine, no home and no address.

    A file is named by its path in a package; what an error itself says is kept otherwise.
    """
    text = "".join(traceback.format_exception(error))
    text = _FILE.sub(lambda found: _within_package(found[0]), text)
    text = _ADDRESS.sub("(address)", text)
    home = str(Path("~").expanduser())
    return text.replace(home, "~") if len(home) > 1 else text


def _within_package(file: str) -> str:
    """A file's path below the longest folder of Python's path that it is in, or its name."""
    for folder in sorted(filter(None, sys.path), key=len, reverse=True):
        if file.startswith(f"{folder.rstrip('/')}/"):
            return file[len(folder.rstrip("/")) + 1 :]
    return Path(file).name
