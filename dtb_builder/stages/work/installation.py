"""Check that a Ray worker uses the same package as the driver."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dtb_builder

__all__ = ["checked_call"]


def checked_call() -> Callable[[bytes], tuple[str | None, Any]]:
    """A function that workers run, which calls a pickled (function, arguments).

    Ray puts the driver's current directory first on every worker's import path, so a checkout there
    would be imported instead of the installed package. The returned function is pickled by value,
    since it is nested, and imports the package only after it has corrected the path. It returns why
    the worker refuses, or None, and the call's result.
    """
    driver = Path(dtb_builder.__file__).parent
    current = Path.cwd()
    not_ours = None if driver.parent == current else str(current)

    def source_files(package: Path) -> dict[str, int]:
        from zlib import crc32

        kinds = (".py", ".cpp", ".cu", ".inc")
        return {
            str(file.relative_to(package)): crc32(file.read_bytes())
            for file in package.rglob("*")
            if file.suffix in kinds and file.relative_to(package).parts[0] not in ("conf", "jobs")
        }

    expected = source_files(driver)
    here = str(driver)

    def call(pickled: bytes) -> tuple[str | None, Any]:
        import pickle
        import socket
        import sys
        from pathlib import Path

        checked = "dtb_builder.checked"
        if checked not in sys.modules:  # once in a process
            if not_ours in sys.path:
                sys.path.remove(not_ours)
            host = socket.gethostname()
            try:
                import dtb_builder
            except ImportError as error:
                return f"a worker on {host} cannot import dtb_builder: {error}", None
            there = Path(dtb_builder.__file__).parent
            theirs = source_files(there)
            names = sorted(expected.keys() | theirs.keys())
            if other := [name for name in names if expected.get(name) != theirs.get(name)]:
                return (
                    f"a worker on {host} has another dtb_builder, in {there}, than the driver, "
                    f"in {here}: {len(other)} files differ, the first is {other[0]}"
                ), None
            sys.modules[checked] = dtb_builder
        function, arguments = pickle.loads(pickled)  # noqa: S301 - the driver's own
        return None, function(*arguments)

    return call
