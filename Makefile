# Every target works on a fresh machine with Python 3.11+, make and a compiler-free pip.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --constraint constraints.txt --editable
# What was installed and made, by the time it was: to generate, for everything, and the compiled passes.
BUILD := $(VENV)/.build
INSTALLED := $(VENV)/.installed
PASSES := $(VENV)/.passes

.PHONY: install wheels wheels-test quickstart example picture test check format lint types imports pytest site chaos fuzz gpu slurm-test clean

install: $(INSTALLED) $(PASSES)

$(BUILD): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) '.[build]'
	touch $@

$(INSTALLED): $(BUILD)
	$(PIP) '.[build,report,publish,export,remote,search,dev]'
	touch $@

# Into the package; without a C++ compiler it says so, and training uses torch alone.
$(PASSES): dtb_builder/network/compiler.py $(wildcard dtb_builder/network/kernels/*.cpp dtb_builder/network/kernels/*.inc) | $(BUILD)
	$(BIN)/python dtb_builder/network/compiler.py
	touch $@

# dist/: the source distribution, a wheel for readers of any platform, and one of Linux with compiled passes.
wheels: install
	rm -rf build/wheel dist
	$(BIN)/python -m build --outdir dist .
	DTB_PASSES=1 $(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel dist/*.tar.gz
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist build/wheel/*.whl

# Each of them in an environment of its own, and the source distribution's tests: minutes, and gigabytes.
wheels-test: wheels
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tests/installing.py

# Plans, trains, merges and queries 8 genotypes x 4 epochs on scikit-learn's digits.
quickstart: $(BUILD) $(PASSES)
	$(BIN)/dtb generate runs/quickstart experiment=quickstart
	$(BIN)/dtb merge runs/quickstart
	$(BIN)/dtb query runs/quickstart/dtb.h5 --top 8 --by valid_accuracy --epoch -1

# Makes the benchmark inside the package again, for a new format: bits are those of the processor.
example: install
	rm -rf runs/example
	$(BIN)/dtb generate runs/example experiment=example cluster=serial
	$(BIN)/dtb merge runs/example
	cp runs/example/dtb.h5 dtb_builder/example.h5

# Makes README's picture anew, the report of the benchmark inside the package; needs Chromium.
picture: install
	mkdir -p runs
	$(BIN)/dtb report dtb_builder/example.h5 --into runs/picture.html
	$(BIN)/python tests/browsing.py runs/picture.html docs/report.png --width 1000 --height 970

test: check

check: format lint types imports pytest

format: install
	$(BIN)/ruff format --check .

lint: install
	$(BIN)/ruff check .

types: install
	$(BIN)/pyright --warnings

imports: install
	$(BIN)/lint-imports --no-cache

pytest: install
	$(BIN)/pytest --numprocesses 2 --dist loadscope

# The pages of docs/ with the API reference, as build/site.
site: install
	$(BIN)/mkdocs build --strict

# The long form of the fault suite: kills, crashes at every write, full disks, thousands of mutants.
chaos: install
	PYTHONPATH=tests $(BIN)/python -m chaos

# Mutants of every kind of file by hypothesis, for SECONDS in all; what goes wrong is kept in tests/fuzz.
SECONDS ?= 600
fuzz: install
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS)

# Proves generation on a GPU, in six minutes at most; tables and logs go to $OUT or gpu/. Needs Python
# with torch for CUDA alone. PART=4 runs a part; REFERENCE is a checkout of quark0/darts.
gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) benchmarks/gpu.py $(if $(PART),--part $(PART)) \
		$(if $(REFERENCE),--reference $(REFERENCE)) $(if $(IMAGES),--images "$(IMAGES)") \
		$(if $(ALLOW_MISSING),--allow-missing)

# The Slurm launcher on a real Slurm of this machine, as root on Debian: installs slurm-wlm and munge.
slurm-test: install
	PYTHONPATH=tests $(BIN)/python tests/jobs/real_slurm.py

clean:
	rm -rf $(VENV) runs build dist *.egg-info .hypothesis .pytest_cache .ruff_cache
