"""The long form of the fuzzing: `make fuzz` prints one table."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import replace
from pathlib import Path

from fuzz.running import BAD, CORPUS, Found, fuzzed, replayed
from fuzz.targets import Target, targets

_HEADER = ("kind", "inputs", "read", "refused", "wrong", "crash", "untyped", "over memory", "slow")


def main() -> int:
    """Fuzz every kind, each in a process of its own; returns 0 when nothing went wrong."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kind", help="only this one, in this process")
    parser.add_argument("--last", type=Path, help="where each input is put before it is read")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        kinds = {target.name: target for target in targets(Path(name))}
        if given.kind is not None:
            end = time.monotonic() + given.seconds
            target = _put_before(kinds[given.kind], given.last)
            found = fuzzed(target, lambda _: time.monotonic() < end, given.seed)
            again = replayed(target)
            found.outcomes += again.outcomes
            found.bad = {**found.bad, **again.bad}
            _report(given.kind, found)
            return 0
        return _all_kinds(list(kinds), given.seconds, given.seed, Path(name) / "last")


def _all_kinds(kinds: list[str], all_seconds: float, seed: int, last: Path) -> int:
    print(" | ".join((*_HEADER, "MiB")))
    harm = 0
    for kind in kinds:
        seconds = f"{all_seconds / len(kinds):.1f}"
        command = [sys.executable, "-m", "fuzz", "--kind", kind, "--seconds", seconds]
        command += ["--last", str(last), "--seed", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{kind} | CRASH {done.returncode}: {_kept(kind, last.read_bytes())}")
            print(done.stderr[-2000:], file=sys.stderr)
            harm += 1
            continue
        told = json.loads(done.stdout.splitlines()[-1])
        harm += sum(told[outcome] for outcome in BAD)
        row = [kind, sum(told[key] for key in ("read", "refused", *BAD)), told["read"]]
        row += [told["refused"], told["WRONG"], 0, told["UNTYPED"], told["OVER MEMORY"]]
        print(" | ".join(map(str, [*row, told["SLOW"], round(told["mib"])])), flush=True)
        print(done.stderr, end="", file=sys.stderr)
    print("no harm done" if not harm else f"HARM: {harm}")
    return 1 if harm else 0


def _put_before(target: Target, last: Path | None) -> Target:
    """The target, which puts each input into a file first: what kills the process is known."""
    if last is None:
        return target

    def read(data: bytes) -> object:
        last.write_bytes(data)
        return target.read(data)

    return replace(target, read=read)


def _kept(kind: str, data: bytes) -> Path:
    """Where an input was put into the corpus."""
    folder = CORPUS / kind.replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{zlib.crc32(data):08x}"
    file.write_bytes(data)
    return file


def _report(kind: str, found: Found) -> None:
    for outcome, (data, detail) in found.bad.items():
        print(f"{kind}: {outcome}: {_kept(kind, data)}\n{detail}", file=sys.stderr)
    counts = {outcome: found.outcomes[outcome] for outcome in ("read", "refused", *BAD)}
    print(json.dumps(counts | {"mib": found.mib}))


if __name__ == "__main__":
    raise SystemExit(main())
