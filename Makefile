# Two set-up commands: `make demo` shows the tool at work, `make test` checks it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test long real real-page torture fuzz fuzz-coverage mutants lint format lab bench site pictures docs docs-serve notebooks figures release-check clean

demo: $(VENV)/.runtime
	$(BIN)/kndb demo
	@echo "  (kndb is installed in $(VENV): first run  . $(VENV)/bin/activate)"

test: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# The tests that take long, some three minutes on 2 cores: the installed demo, the lab models as the paper has it, docs/session.md.
long: $(VENV)/.development
	$(BIN)/python -m pytest -n auto --dist load -m long

# Prepares a really pretrained model, once, runs the tests marked `real` and prints a page of figures (some 10 minutes).
real: $(VENV)/.real $(VENV)/.development
	$(BIN)/python benchmarks/fetch_real_model.py
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m real
	$(BIN)/python benchmarks/real_models.py --size small

# Measures it in full and writes docs/real-models.md (about 25 minutes on 2 cores; killed, it goes on where it stopped).
real-page: $(VENV)/.real
	$(BIN)/python benchmarks/fetch_real_model.py
	$(BIN)/python benchmarks/real_models.py --write docs/real-models.md

FAULTS := tests/cli tests/database tests/editing tests/faults tests/store

# The tests of faults in their long form: more steps, and KNDB_TORTURE times the seeds (docs/reliability.md).
torture: $(VENV)/.development
	KNDB_TORTURE=$${KNDB_TORTURE:-3} $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m fault $(FAULTS)

# The fuzzers in their long form, with KNDB_FUZZ_EXAMPLES new examples each (docs/reliability.md).
fuzz: $(VENV)/.development
	KNDB_FUZZ_EXAMPLES=$${KNDB_FUZZ_EXAMPLES:-20000} $(BIN)/python -m pytest -n auto --dist worksteal -m fuzz tests

# Fuzzes the readers of edits and descriptions with atheris, guided by coverage, for FUZZ_SECONDS.
fuzz-coverage: $(VENV)/.fuzz
	mkdir -p build/fuzz-corpus/edits build/fuzz-corpus/lists
	$(BIN)/python benchmarks/fuzz_edits.py -max_total_time=$${FUZZ_SECONDS:-600} -max_len=60000 build/fuzz-corpus/edits
	$(BIN)/python benchmarks/fuzz_readers.py -max_total_time=$${FUZZ_SECONDS:-600} -max_len=4000 build/fuzz-corpus/lists

# Changes the code in small ways and looks which change no test of pyproject.toml's list notices (docs/reliability.md).
mutants: $(VENV)/.mutants
	$(BIN)/python benchmarks/mutants.py $(MUTANTS)

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Trains both shipped lab models again from data/facts (about 10 minutes on 2 cores).
lab: $(VENV)/.runtime
	$(BIN)/kndb lab train --planted --family bert --out data/lab-bert --force
	$(BIN)/kndb lab train --family gpt2 --out data/lab-gpt2 --force

bench: $(VENV)/.runtime
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/queries.py

# The explorer's pages of lab-bert as files, in build/explorer, and the pictures of docs/explorer.md (some minutes, and a browser).
site: $(VENV)/.development
	$(BIN)/python benchmarks/explorer_pictures.py --site build/explorer

build/explorer/index.html:
	$(MAKE) site

pictures: $(VENV)/.development
	$(BIN)/python benchmarks/explorer_pictures.py --pictures docs/figures

# The documentation as a site, in build/site, with the explorer's pages as an example (made once: remove build/explorer for
# new ones). Its search needs a server: `make docs-serve` is one that follows changes.
docs: $(VENV)/.docs build/explorer/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# Runs the notebooks of examples/ and keeps what they show in them.
notebooks: $(VENV)/.development
	$(BIN)/python examples/notebooks.py

# The README's picture (a minute), and the curves of docs/scale.md from docs/figures/cost.csv, which has what was measured.
figures: $(VENV)/.development
	rm -rf build/figures && mkdir -p build/figures
	$(BIN)/kndb ingest data/facts --db build/figures/kndb.db
	$(BIN)/kndb attribute --model lab-bert --relation P176 --db build/figures/kndb.db
	$(BIN)/kndb refine --db build/figures/kndb.db
	$(BIN)/kndb plot fact 588 --out docs/figures/fact-nissan-leaf.svg --db build/figures/kndb.db
	$(BIN)/python benchmarks/scaling.py draw

# Wheel and sdist: built, each installed into an environment of its own, the demo run from each (some minutes).
release-check: $(VENV)/.development
	$(BIN)/python benchmarks/release_check.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone, so that a build of it already at hand is taken.
$(VENV)/.torch: $(VENV)/bin/python constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	touch $@

$(VENV)/.runtime: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[web]"
	touch $@

$(VENV)/.development: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	touch $@

$(VENV)/.real: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[real]"
	touch $@

$(VENV)/.fuzz: $(VENV)/.development
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[fuzz]"
	touch $@

$(VENV)/.mutants: $(VENV)/.development
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[mutants]"
	touch $@

clean:
	rm -rf $(VENV) build dist mutants *.egg-info
