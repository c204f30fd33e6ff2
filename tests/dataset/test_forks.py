import subprocess
import sys
from pathlib import Path

# Threads that compute what is remembered nearly all the time, and children that do the same.
FORKS = """
import os, signal, sys, threading, time, warnings
from dtb_builder import Benchmark

warnings.simplefilter("ignore")
benchmark = Benchmark(sys.argv[1])

def read():
    while True:
        for run in benchmark:
            run.state(epoch=1), run.genotype.iso_key

for _ in range(2):
    threading.Thread(target=read, daemon=True).start()
time.sleep(0.1)
returned = 0
for _ in range(40):
    if not (child := os.fork()):
        signal.alarm(30)
        benchmark.run(3).state(epoch=2), benchmark.run(3).genotype.iso_key
        os._exit(0)
    returned += os.waitpid(child, 0)[1] == 0
print(returned, flush=True)
os._exit(0)
"""


def test_a_forked_process_reads_while_threads_of_its_parent_read(shard: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(shard)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "40"
