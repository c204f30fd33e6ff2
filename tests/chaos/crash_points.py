"""Every write of a program as a possible crash point: record its system calls, replay prefixes."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Call", "crashes", "record"]

_NUMBERS = struct.Struct("<qqq")


@dataclass(frozen=True)
class Call:
    """One recorded system call; the letters are explained in record_calls.c."""

    kind: str
    path: str
    offset: int
    data: bytes


def record(program: Sequence[str], root: Path, build: Path) -> list[Call]:
    """Run a Python program and record, in order, what it does to the files below a folder.

    Args:
        program: arguments of the Python interpreter.
        root: the folder.
        build: where the recorder is compiled to and writes its log.
    """
    library, log = build / "record_calls.so", build / "calls.log"
    source = Path(__file__).with_name("record_calls.c")
    compiler = os.environ.get("CC", "cc")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run([*command, "-lpthread"], check=True)
    log.unlink(missing_ok=True)
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "RECORD_ROOT": str(root),
        "RECORD_LOG": str(log),
    }
    subprocess.run([sys.executable, *program], env=environment, check=True)
    return list(_parse(log.read_bytes()))


def crashes(
    calls: Sequence[Call], before: Path, root: Path, work: Path, *, ignored: str = ""
) -> Iterator[tuple[int, str, Path]]:
    """The folder as it may be found after a crash behind each recorded call.

    Args:
        calls: what `record` gave.
        before: a copy of the folder as it was before the program ran.
        root: the folder that was recorded.
        work: where the folder is laid out, once per crash.
        ignored: kinds of calls that are taken to have no effect.

    Yields:
        how many calls had been made, what was lost ("nothing": the process died; "unsynced": the
        machine died, and with it every write that no sync followed), and the folder.
    """
    start = {
        str(path.relative_to(before)): path.read_bytes()
        for path in before.rglob("*")
        if path.is_file()
    }
    seen: dict[str, bytearray] = {name: bytearray(data) for name, data in start.items()}
    synced: dict[str, bytes] = dict(start)
    for num_calls in range(len(calls) + 1):
        if num_calls and calls[num_calls - 1].kind not in ignored:
            _apply(calls[num_calls - 1], seen, synced, root)
        yield num_calls, "nothing", _laid_out(seen, before, work)
        lost = {name: synced.get(name, b"") for name in seen}
        yield num_calls, "unsynced", _laid_out(lost, before, work)


def _apply(call: Call, seen: dict[str, bytearray], synced: dict[str, bytes], root: Path) -> None:
    name = os.path.relpath(call.path, root)
    if call.kind == "C":
        seen[name] = bytearray()
        synced.setdefault(name, b"")
    elif call.kind == "W":
        data = seen[name]
        data.extend(bytes(max(0, call.offset - len(data))))
        data[call.offset : call.offset + len(call.data)] = call.data
    elif call.kind == "T":
        data = seen[name]
        data.extend(bytes(max(0, call.offset - len(data))))
        del data[call.offset :]
    elif call.kind == "S":
        if name in seen:
            synced[name] = bytes(seen[name])
    elif call.kind == "R":
        target = os.path.relpath(call.data.decode(), root)
        seen[target] = seen.pop(name)
        synced[target] = synced.pop(name, b"")
    elif call.kind == "U":
        seen.pop(name, None)
        synced.pop(name, None)


def _laid_out(files: dict[str, bytearray] | dict[str, bytes], before: Path, work: Path) -> Path:
    if work.exists():
        shutil.rmtree(work)
    for folder in (before, *(path for path in before.rglob("*") if path.is_dir())):
        (work / folder.relative_to(before)).mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return work


def _parse(log: bytes) -> Iterator[Call]:
    position = 0
    while position < len(log):
        kind = chr(log[position])
        path_size, offset, data_size = _NUMBERS.unpack_from(log, position + 1)
        start = position + 1 + _NUMBERS.size
        middle, position = start + path_size, start + path_size + data_size
        yield Call(kind, log[start:middle].decode(), offset, log[middle:position])
