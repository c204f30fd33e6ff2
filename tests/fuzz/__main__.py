"""The long form of the fuzzing: `make fuzz` prints one table."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from fuzz.running import BAD, CORPUS, Found, fuzzed, replayed
from fuzz.targets import targets

_HEADER = ("kind", "inputs", "read", "refused", "wrong", "crash", "untyped", "over memory", "slow")


def main() -> int:
    """Fuzz every kind, each in a process of its own; returns 0 when nothing went wrong."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kind", help="only this one, in this process")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        kinds = {target.name: target for target in targets(Path(name))}
        if given.kind is not None:
            end = time.monotonic() + given.seconds
            target = kinds[given.kind]
            found = fuzzed(target, lambda _: time.monotonic() < end, given.seed)
            again = replayed(target)
            found.outcomes += again.outcomes
            found.bad = {**found.bad, **again.bad}
            _report(given.kind, found)
            return 0
    print(" | ".join((*_HEADER, "MiB")))
    harm = 0
    for kind in kinds:
        seconds = f"{given.seconds / len(kinds):.1f}"
        command = [sys.executable, "-m", "fuzz", "--kind", kind, "--seconds", seconds]
        done = subprocess.run([*command, "--seed", str(given.seed)], capture_output=True, text=True)
        if done.returncode:
            print(f"{kind} | CRASH {done.returncode}: {done.stderr[-2000:]}")
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


def _report(kind: str, found: Found) -> None:
    for outcome, (data, detail) in found.bad.items():
        folder = CORPUS / kind.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{zlib.crc32(data):08x}"
        file.write_bytes(data)
        print(f"{kind}: {outcome}: {file}\n{detail}", file=sys.stderr)
    counts = {outcome: found.outcomes[outcome] for outcome in ("read", "refused", *BAD)}
    print(json.dumps(counts | {"mib": found.mib}))


if __name__ == "__main__":
    raise SystemExit(main())
