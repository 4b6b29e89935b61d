# Everything one does with Chimera. `make` alone lists it. All of it runs from a fresh clone, as root or as an ordinary user.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test lint types imports unit real bench docs fuzz chaos lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo "  options: ARGS='...' is passed on (make run ARGS=--once); PYTHON=python3.12 chooses the interpreter"

setup: $(STAMP) ## make .venv with the locked packages, checked by hash

$(STAMP): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "no '$(PYTHON)' found: install Python 3.11 or newer, or run make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Chimera needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V 2>&1): run make PYTHON=python3.11" >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { echo "the virtual environment could not be made: install your system's python3-venv package" >&2; exit 1; }
	@echo "setting up $(VENV), once: $$(grep -c == requirements.txt) locked packages, checked by hash; this takes some minutes and 1.6 GB ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

run: setup ## do the main job: start everything, run the example campaign on real input, show what came out
	@$(BIN)/chimera demo $(ARGS)

test: setup lint types imports ## everything that must hold: style, types, import rules, all tests
	$(BIN)/pytest -n 2 --dist loadfile --ignore tests/faults $(ARGS)
	$(BIN)/pytest -n 2 --dist loadfile tests/faults $(ARGS)

unit: setup ## the tests that need no server
	$(BIN)/pytest tests/unit $(ARGS)

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy --strict: the package, the tests and the benchmarks
	$(BIN)/mypy

imports: setup ## which room may import which (pyproject.toml, importlinter)
	$(BIN)/lint-imports

real: setup ## the tools that the registries' real servers list, beside those that the sandboxes play (installs them first)
	@$(BIN)/python -m tests.integration.test_real_servers .real-servers
	@CHIMERA_REAL_SERVERS=$(CURDIR)/.real-servers $(BIN)/pytest -q tests/integration/test_real_servers.py

bench: setup ## the figures, each beside its limit in the same run (ARGS=--full takes the sizes of the design)
	@$(BIN)/python benchmarks/all.py $(ARGS)

docs: setup ## write the generated pages (schemas, AsyncAPI, views) again
	$(BIN)/python -m chimera.events.docs docs
	$(BIN)/python -m chimera.projections.dictionary docs
	$(BIN)/python -m chimera.control.api.openapi docs

fuzz: setup ## call the API with many made-up calls (CHIMERA_FUZZ of each operation)
	CHIMERA_FUZZ=$${CHIMERA_FUZZ:-200} $(BIN)/pytest -q tests/e2e/test_control_fuzzed.py $(ARGS)

chaos: setup ## the long tests that break real processes
	CHIMERA_CHAOS=1 $(BIN)/pytest -m chaos $(ARGS)

lock: setup ## write requirements.txt again from pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --all-extras --all-build-deps --allow-unsafe --strip-extras --generate-hashes \
		--no-annotate --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
		--output-file requirements.txt pyproject.toml

clean: ## remove what was built; data under .chimera stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
