"""The command ``dtb``."""

import argparse
import io
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from dtb_builder import __version__
from dtb_builder.commands import checking, generating, launching, reading, scoring, studies
from dtb_builder.commands.signals import Terminated
from dtb_builder.errors import DTBError, NotStartedError
from dtb_builder.extras import extras_are_named
from dtb_builder.meant import did_you_mean
from dtb_builder.shown import shown, shown_lines

__all__ = ["main"]

_DESCRIPTION = """\
Generate, publish and query trained DARTS architectures with their training states.

  dtb generate runs/quickstart experiment=quickstart    plan, train on Ray, continue after a stop
  dtb merge runs/quickstart                             make runs/quickstart/dtb.h5
  dtb query runs/quickstart --top 5 --by valid_accuracy --epoch -1
"""

_GROUPS = {
    "make a benchmark": ("plan", "generate", "status", "merge", "branch", "jobs"),
    "read one": ("info", "query", "export", "report", "draw"),
    "study it": ("score", "rank", "search", "reproduce", "replay"),
    "care for it": ("verify", "repair", "unite", "subset", "publish"),
}

_EPILOG = """\
`dtb COMMAND --help` shows a command's options and an example. A SETTING is key=value, as in
recipe.num_epochs=4, or group=name, as in images=fashion_mnist; `dtb plan RUN_FOLDER --show`
prints every key with its value. Completion in bash and zsh:
  eval "$(register-python-argcomplete dtb)"

exit codes: 0 done; 1 done, but runs failed, work is left or damage was found; 2 an error of the
command, a setting, a file or the machine; 75 stopped by SIGTERM, or Ray did not start in time, and
130 interrupted: the same command continues from there.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser, commands = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks how the line goes on
        import argcomplete

        argcomplete.autocomplete(parser)
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help()
        return 2
    # argparse cannot take settings both before and after an option; those after it are added here.
    given, rest = parser.parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-") or given.conf_file is None]
    if unknown:
        commands.choices[given.verb].error(_untaken(unknown[0], given, commands))
    if given.conf_file is not None:
        given.settings = [*given.settings, *rest]
    handler = logging.StreamHandler()
    handler.setFormatter(_Shown("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know ASCII only
    try:
        with extras_are_named(given.verb):
            return given.command(given)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe, such as head, has ended
        return 2 if given.verb in ("generate", "merge", "score", "search") else 0
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


class _Parser(argparse.ArgumentParser):
    """A parser that says which command is meant."""

    def error(self, message: str) -> NoReturn:
        if unknown := re.match(r"argument COMMAND: invalid choice: '(.*?)'", message):
            known = [name for names in _GROUPS.values() for name in names]
            hint = did_you_mean(unknown[1], [*known, "--help"]) or "; dtb --help lists them"
            message = f"there is no command {unknown[1]!r}{hint}"
        super().error(message)


def _parser() -> tuple[argparse.ArgumentParser, Any]:
    parser = _Parser(
        prog="dtb",
        description=_DESCRIPTION,
        usage="dtb COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dtb {__version__}")
    commands = parser.add_subparsers(
        prog="dtb", metavar="COMMAND", required=True, help=argparse.SUPPRESS
    )
    for module in (generating, launching, reading, studies, checking, scoring):
        module.add_commands(commands)
    lines = [
        line
        for group, names in _GROUPS.items()
        for line in (f"{group}:", *(f"  {n:<11}{commands.choices[n].description}" for n in names))
    ]
    parser.epilog = "\n".join([*lines, "", _EPILOG])
    return parser, commands


def _untaken(text: str, given: argparse.Namespace, commands: Any) -> str:
    """Why a command does not take an argument, and what was meant."""
    wrong = f"takes no {text!r}"
    options = re.findall(r"--[\w-]+", commands.choices[given.verb].format_usage())
    name = text.partition("=")[0]
    if hint := did_you_mean(name, options):
        return wrong + hint
    if given.conf_file is None or not text.startswith("--"):
        return f"{wrong}: see dtb {given.verb} --help"
    from dtb_builder.commands.composing import known_settings

    hint = did_you_mean(name.lstrip("-"), known_settings(given.conf_file))
    return f"{wrong}: settings are given as key=value{hint.replace(':', ';', 1)}"


if __name__ == "__main__":
    sys.exit(main())
