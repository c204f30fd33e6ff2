"""What `make wheels` has made, installed in environments of its own and used there.

`make wheels-test` runs it, with a package index within reach. It leaves nothing behind.
"""

import resource
import sys
import tempfile
from pathlib import Path

from told import command, say

from dtb_builder.network.compiler import compile_passes, library_name

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
READER_MEGABYTES = 110
READER_SECONDS = 20
EXTRAS = "[build,report,publish,export,remote,search,dev]"
# Those that take seconds, of every part; all take ten minutes.
TESTS = ("test_examples.py", "test_extras.py", "test_face.py", "test_packaging.py", "space")
TESTS += ("images", "jobs", "dataset/test_codec.py", "dataset/test_golden.py")
TESTS += ("network/test_built.py", "network/test_kernels.py", "statistics")
QUERY = """
from dtb_builder import Benchmark
with Benchmark.example() as bench:
    best = bench.top(1, by="valid_accuracy", epoch=-1)[0]
    print(len(bench), best.number, best.metric("test_accuracy", epoch=-1))
    print(sum(values.size for values in best.state(epoch=-1).values()), "floats")
    print(bench.images().test.images.shape)
"""


def only(pattern: str, folder: Path = DIST) -> Path:
    (found,) = folder.glob(pattern)
    return found


def environment(folder: Path) -> Path:
    """A new environment; its folder of programs."""
    command(sys.executable, "-m", "venv", folder)
    return folder / "bin"


def megabytes(folder: Path) -> float:
    return float(command("du", "-sk", folder).split()[0]) / 1024


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def used_by_a_reader(wheel: Path, folder: Path) -> Path:
    """Install a wheel without extras, look at what it takes, query and verify; its package."""
    programs = environment(folder)
    empty, begin = megabytes(folder), processor_seconds()
    command(programs / "pip", "install", "--quiet", wheel)
    size, seconds = megabytes(folder) - empty, processor_seconds() - begin
    say(f"{wheel.name}: {size:.0f} MB beside an empty environment's {empty:.0f}, {seconds:.1f} s")
    assert size <= READER_MEGABYTES, "for readers it is too large"
    assert seconds <= READER_SECONDS, "for readers it takes too long"
    say(command(programs / "python", "-c", QUERY, cwd=folder).replace("\n", "; "))
    package = only("lib/python*/site-packages/dtb_builder", folder)
    say(command(programs / "dtb", "verify", package / "example.h5").strip())
    return package


def main() -> None:
    """Check each of the three files."""
    wheel, linux = only("*-py3-none-any.whl"), only("*-py3-none-manylinux*_x86_64.whl")
    say(" ".join(command("auditwheel", "show", linux).split()))
    with tempfile.TemporaryDirectory(prefix="dtb-installing-") as name:
        folder = Path(name)
        assert list(used_by_a_reader(wheel, folder / "reader").rglob("*.so")) == []
        library = only("network/kernels/*.so", used_by_a_reader(linux, folder / "linux"))
        compile_passes(folder / library_name())
        assert library.name == library_name()
        assert library.read_bytes() == (folder / library_name()).read_bytes()
        say(f"{library.name} is what the compiler of this machine makes")
        command("tar", "--extract", "--gzip", "--file", only("*.tar.gz"), "--directory", folder)
        sources = only("*/pyproject.toml", folder).parent
        programs = environment(folder / "tests")
        install = [programs / "pip", "install", "--quiet", "--constraint", "constraints.txt"]
        command(*install, f".{EXTRAS}", cwd=sources)
        say(f"{sources.name} is installed with what its tests need")
        files = [f"tests/{name}" for name in TESTS]
        told = command(programs / "pytest", "-q", *files, cwd=sources)
        say(told.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
