"""Finding a person's own score by its name, here and in a worker."""

import hashlib
import importlib
import inspect
import socket
import sys
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from dtb_builder.errors import ConfigError
from dtb_builder.scores.names import RANKED_BESIDE, SCORES
from dtb_builder.scores.own import OwnScore
from dtb_builder.stages.scoring.table import FACTS, seconds_name

__all__ = ["GROUP", "NamedScore", "load_score", "named_score"]

GROUP = "dtb.scores"
"""Entry points of installed packages that are scores."""


@dataclass(frozen=True)
class NamedScore:
    """A score as a worker finds it.

    Attributes:
        name: of its column.
        function: as in ``module:function``.
        sha256: of the module's file.
        folder: where the module may be, besides what is installed.
    """

    name: str
    function: str
    sha256: str
    folder: str

    def about(self) -> dict[str, str]:
        """What tells its values from those of other code."""
        return {"function": self.function, "sha256": self.sha256}


def named_score(text: str, folder: Path) -> NamedScore:
    """The score of a ``module:function``, or of an entry point's name.

    Args:
        text: which.
        folder: where its module may be, besides what is installed.

    Raises:
        ConfigError: there is none, or its name is that of a column that DTB itself makes.
    """
    function = text if ":" in text else _entry_point(text)
    name = text.rpartition(":")[2].rpartition(".")[2]
    module, _ = _found(function, folder)
    taken = {*SCORES, *RANKED_BESIDE, *FACTS}
    if not name.isidentifier() or name in taken or name.endswith(seconds_name("")):
        raise ConfigError(f"--score {text}: no score of yours can be called {name!r}")
    return NamedScore(name, function, _sha256(module), str(folder))


def load_score(score: NamedScore) -> OwnScore:
    """The function itself.

    Raises:
        ConfigError: this machine has none, or other code.
    """
    module, function = _found(score.function, Path(score.folder))
    if _sha256(module) != score.sha256:
        raise ConfigError(
            f"{score.function} on {socket.gethostname()} is other code than where dtb score was "
            f"called: {module.__file__}"
        )
    return function


def _entry_point(name: str) -> str:
    known = {point.name: point.value for point in entry_points(group=GROUP)}
    if name not in known:
        there = f", or one of the entry points {', '.join(sorted(known))}" if known else ""
        raise ConfigError(f"--score must be as in mymodule:my_score{there}, got {name!r}")
    return known[name]


def _found(text: str, folder: Path) -> tuple[ModuleType, OwnScore]:
    """The module and the function of a ``module:function``."""
    module_name, _, path = text.partition(":")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: its files hide nobody else's
    try:
        module = importlib.import_module(module_name)
        function: Any = reduce(getattr, path.split("."), module)
    except Exception as error:
        raise ConfigError(f"--score {text}: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise ConfigError(f"--score {text} is no function, but {type(function).__name__}")
    return module, function


def _sha256(module: ModuleType) -> str:
    file = inspect.getsourcefile(module)
    if file is None:
        raise ConfigError(f"--score: the module {module.__name__} has no Python file")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
