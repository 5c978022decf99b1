# Two set-up commands: `make demo` shows the tool at work, `make test` checks it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test torture lint format lab bench clean

demo: $(VENV)/.runtime
	$(BIN)/kndb demo
	@echo "  (kndb is installed in $(VENV): first run  . $(VENV)/bin/activate)"

test: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadfile

FAULTS := tests/database tests/editing tests/faults tests/store

# The tests of faults in their long form: more steps, and KNDB_TORTURE times the seeds (docs/reliability.md).
torture: $(VENV)/.development
	KNDB_TORTURE=$${KNDB_TORTURE:-3} $(BIN)/python -m pytest -n auto -m fault $(FAULTS)

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

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone, so that a build of it already at hand is taken.
$(VENV)/.torch: $(VENV)/bin/python constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	touch $@

$(VENV)/.runtime: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.development: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
