"""The command ``dtb``."""

import argparse
import io
import logging
import sys
from collections.abc import Sequence

from dtb_builder import __version__
from dtb_builder.commands import checking, generating, launching, reading, scoring, studies
from dtb_builder.commands.signals import Terminated
from dtb_builder.errors import DTBError, NotStartedError
from dtb_builder.extras import extras_are_named
from dtb_builder.shown import shown, shown_lines

__all__ = ["main"]

_DESCRIPTION = """\
Generate, publish and query trained DARTS architectures with their training states.

  dtb generate runs/quickstart experiment=quickstart    plan, train on Ray, continue after a stop
  dtb merge runs/quickstart                             make runs/quickstart/dtb.h5
  dtb query runs/quickstart/dtb.h5 --top 5 --by valid_accuracy --epoch -1

SETTING is a Hydra override: key=value as in recipe.num_epochs=4, or group=name as in
images=fashion_mnist. `dtb plan RUN_FOLDER --show` prints every key with its value.
"""

_EPILOG = """\
exit codes: 0 done; 1 done, but runs failed, work is left or damage was found; 2 an error of the
command, a setting, a file or the machine; 75 stopped by SIGTERM, or Ray did not start in time, and
130 interrupted: the same command continues from there.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    # argparse cannot take settings both before and after an option; those after it are added here.
    given, rest = parser.parse_known_args(arguments)
    options = [text for text in rest if text.startswith("-") or not hasattr(given, "settings")]
    if options:
        parser.error(f"{given.name} takes no {options[0]!r}: see dtb {given.name} --help")
    if rest:
        given.settings += rest
    handler = logging.StreamHandler()
    handler.setFormatter(_Shown("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know ASCII only
    try:
        with extras_are_named(given.name):
            return given.command(given)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe, such as head, has ended
        return 2 if given.name in ("generate", "merge", "score", "search") else 0
    except NotStartedError as error:
        print(f"dtb: {shown(error)}; the same command goes on from here", file=sys.stderr)
        return 75
    except (DTBError, OSError) as error:
        if type(error) is OSError and error.errno is None:
            raise  # neither from the operating system nor raised by this package on purpose
        notes = getattr(error, "__notes__", ())
        print(shown_lines("\n".join([f"dtb: {error}", *notes])), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dtb: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Terminated:
        print("dtb: told to stop; the same command goes on from here", file=sys.stderr)
        return 75


class _Shown(logging.Formatter):
    """What is logged may quote a file."""

    def format(self, record: logging.LogRecord) -> str:
        return shown_lines(super().format(record))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dtb",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dtb {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (generating, launching, reading, studies, checking, scoring):
        module.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
