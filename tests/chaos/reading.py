"""A program that reads DTB files completely, and says of each whether it tells the truth."""

import contextlib
import json
import pickle
import resource
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from dtb_builder.dataset import Benchmark
from dtb_builder.errors import DTBError, NotFoundError
from dtb_builder.record import METRICS

__all__ = ["main", "peak_mib", "restarted_mib", "said", "taking_at_most"]


def said(path: Path | str) -> Iterator[tuple[Any, Any]]:
    """Everything a benchmark says: a question with its answer, or with the typed error."""
    try:
        benchmark = Benchmark(path)
    except (DTBError, FileNotFoundError) as error:
        yield "open", error
        return
    with benchmark:
        yield from _asked(benchmark)


def _asked(benchmark: Benchmark) -> Iterator[tuple[Any, Any]]:
    yield "length", len(benchmark)
    for question in ("provenance", "environments", "failures", "num_epochs"):
        yield question, _answer(lambda question=question: getattr(benchmark, question))
    for name in METRICS:
        yield ("array", name), _answer(lambda name=name: _plain(benchmark.array(name, epoch=None)))
    for i, run in enumerate(benchmark):
        if i == 10:
            break
        yield ("number", i), _answer(lambda run=run: run.number)
        yield ("seed", i), _answer(lambda run=run: run.seed)
        yield ("parameters", i), _answer(lambda run=run: run.num_parameters)
        yield ("genotype", i), _answer(lambda run=run: str(run.genotype))
        yield (
            ("found", i),
            _answer(lambda run=run: [r.seed for r in benchmark.runs_of(run.genotype)]),
        )
        for name in METRICS:
            yield ("curve", i, name), _answer(lambda run=run, n=name: _plain(run.curve(n)))
        for name in ("order_seed", "num_epochs", "multiply_accumulates", "origin", "moments"):
            yield (name, i), _answer(lambda run=run, n=name: getattr(run, n))
        for name in ("state_epochs", "state_steps", "momentum_epochs"):
            yield (name, i), _answer(lambda run=run, n=name: getattr(run, n))
        for step in (1, 2, 10):
            yield (
                ("step state", i, step),
                _answer(lambda run=run, s=step: _state(run.training_state(step=s))),
            )
        for epoch in range(4):
            for name, ask in (
                ("state", lambda run=run, e=epoch: _state(run.training_state(epoch=e))),
                ("momentum", lambda run=run, e=epoch: _named(run.momentum(epoch=e))),
                ("environment", lambda run=run, e=epoch: run.environment(epoch=e)),
                ("state checksum", lambda run=run, e=epoch: run.state_crc32c(epoch=e)),
            ):
                yield (name, i, epoch), _answer(ask)


def _answer(ask: Any) -> Any:
    try:
        return ask()
    except NotFoundError as error:
        return repr(error)  # an answer too: it says what is not there
    except DTBError as error:
        return error


def _plain(array: Any) -> bytes:
    return array.filled(-1.5).tobytes()


def _named(arrays: Any) -> list[tuple[str, str]]:
    return [(name, sha256(values.tobytes()).hexdigest()) for name, values in arrays.items()]


def _state(state: Any) -> tuple[str, int]:
    return sha256(state.values.data).hexdigest(), state.num_batches_tracked  # may be long


def main(truth_file: Path, paths: list[Path]) -> None:
    """Print a line of JSON for each file: its outcome and the most memory used so far, in MiB."""
    truth = pickle.loads(truth_file.read_bytes())  # this program's own, not a published file
    for path in paths:
        outcome, detail = "right", ""
        try:
            for question, answer in said(path):
                if isinstance(answer, DTBError | FileNotFoundError):
                    outcome = "refused" if question == "open" else "refused in part"
                elif question not in truth or truth[question] != answer:
                    outcome, detail = "WRONG", f"{question}: {str(answer)[:100]}"
                    break
        except Exception as error:  # noqa: BLE001 - the very thing that is looked for
            outcome, detail = "UNTYPED", f"{type(error).__name__}: {error}"[:200]
        print(json.dumps([path.name, outcome, detail, peak_mib()]), flush=True)


def peak_mib() -> float:
    """The most memory that this process has used; getrusage would count its parent's in."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def restarted_mib() -> float:
    """The memory of this process now, from which the peak is counted anew where Linux can."""
    file = Path("/proc/self/clear_refs")
    if file.exists():
        file.write_text("5")
    return peak_mib()


@contextlib.contextmanager
def taking_at_most(mib: float) -> Iterator[None]:
    """See that no more memory is taken meanwhile."""
    before = restarted_mib()
    yield
    assert peak_mib() - before < mib


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
