"""What the long checks outside the suite share: they tell what they do and when."""

import subprocess
import time
from pathlib import Path

__all__ = ["command", "say"]

_BEGIN = time.monotonic()


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"{time.monotonic() - _BEGIN:6.1f} s  {text}", flush=True)


def command(*words: str | Path, cwd: Path | None = None) -> str:
    """What a command prints; one that fails raises, and shows what it said."""
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=cwd,
    )
    if done.returncode:
        raise RuntimeError(f"{words} exited with {done.returncode}: {done.stdout}")
    return done.stdout
