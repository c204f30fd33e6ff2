"""What the report of a large benchmark costs: to make, to store, to open and to scroll.

    python benchmarks/report.py FOLDER [--runs 100000] [--epochs 50]

Runs of random numbers are made in FOLDER if it has none. A browser is needed: chromium and
chromedriver. Where the machine has no GPU, WebGL is drawn by the processor, which is slower.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from browsing import chromium, look, settle

from benchmarks.query import make_index
from dtb_builder import Benchmark
from dtb_builder.stages.publishing.report import write_report

SCROLL = """
const done = arguments[0], gaps = [];
let last = performance.now(), top = 0;
function frame(now) {
  gaps.push(now - last);
  last = now;
  scrollTo(0, top += 60);
  if (top < document.documentElement.scrollHeight) return requestAnimationFrame(frame);
  scrollTo(0, 0);
  gaps.sort((a, b) => a - b);
  done([gaps[gaps.length >> 1], gaps[Math.floor(.95 * gaps.length)], gaps.at(-1)]);
}
requestAnimationFrame(frame);
"""
CHOOSE = """
const menu = document.getElementById('metric'), start = performance.now();
menu.selectedIndex = 1;
menu.dispatchEvent(new Event('change'));
return performance.now() - start;
"""


def main() -> None:
    """Make what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--turns", type=int, default=5, help="of the browser; medians are printed")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    path, page = given.folder / "dtb.h5", given.folder / "report.html"
    if not path.exists():
        with Benchmark.example() as example:
            provenance = json.dumps(example.provenance)
        make_index(path, given.runs, given.epochs, provenance)
    begin = time.perf_counter()
    with Benchmark(path) as benchmark:
        write_report(benchmark, page)
        print(f"{len(benchmark):,} runs of {benchmark.num_epochs} epochs\n\n| | |\n|---|---|")
    print(f"| made in | {time.perf_counter() - begin:.1f} s |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| memory, at most | {peak:,.0f} MiB |")
    print(f"| the page | {page.stat().st_size / 1e6:.1f} MB |")
    with chromium() as browser:
        measured = [opened(browser, page) for _ in range(given.turns)]
        kind = browser.execute_script("return document.getElementById('points').data[0].type")
        print(f"| points are drawn as | {kind} |")
    for name in measured[0]:
        values = sorted(each[name] for each in measured)
        print(f"| {name} | {values[len(values) // 2]:,.0f} |")


def opened(browser: Any, page: Path) -> dict[str, float]:
    """Open the page, scroll it twice and choose another metric."""
    look(browser, 1440)
    browser.get("about:blank")
    browser.get(page.absolute().as_uri())
    settle(browser)
    loaded = browser.execute_script(
        "return performance.getEntriesByType('navigation')[0].loadEventEnd"
    )
    first, again = (browser.execute_async_script(SCROLL) for _ in range(2))
    return {
        "until it is loaded, ms": loaded,
        "first scroll, which draws: median frame, ms": first[0],
        "first scroll: slowest frame, ms": first[2],
        "second scroll: median frame, ms": again[0],
        "second scroll: slowest frame, ms": again[2],
        "another metric, ms": browser.execute_script(CHOOSE),
        "JavaScript's memory, MiB": browser.execute_script(
            "return performance.memory.usedJSHeapSize / 2 ** 20"
        ),
    }


if __name__ == "__main__":
    main()
