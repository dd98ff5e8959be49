# What there is to type: `make help`.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# The first of these that is Python 3.11 or later makes the environment.
PYTHONS := python3 python3.11 python3.12 python3.13 python
PYTHON ?= $(shell for p in $(PYTHONS); do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	>/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SLITHER := build/slither/bin/slither
PACKAGES := contracts/node_modules/.installed
RECIPE ?= recipes/quickstart.toml
ARGS ?=
# Two workers share the machine, so each computes on one core: no test depends on how many there are. Whole files go to
# one worker, since the tests of a file share what is dear: a run of real processes.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PYTEST_ARGS ?= -n 2 --dist loadfile -m "not ci"
NAME ?=
# What needs the least comes first; the exchange needs root, for its network namespaces.
BENCHMARKS := ledger_costs codec_throughput quickstart round_overhead join loss_against_payload exchange utilisation together_lora distillation

.PHONY: help setup run test test-core templates coverage lint format typecheck imports contracts invariants anvil slither \
	licences wheel check bench bench-check nightly clean

help: ## What there is to type
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Create .venv with everything in it (nothing to do the second time)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "DisTrAI needs Python 3.11 or later: install it, or say make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || \
		{ echo "Cannot create $(VENV); on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV) (once; a few minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev,jobs]'
	@touch $@

$(PACKAGES): contracts/package-lock.json $(STAMP)
	@$(BIN)/python tools/check_contracts.py --install

run: $(STAMP) ## Train a language model with four peers on this machine (RECIPE=..., ARGS="--peers 2")
	@$(BIN)/distrai run $(RECIPE) $(ARGS)

test: $(STAMP) $(PACKAGES) ## Every test (ARGS="tests/protocol -k recipe" for some)
	@$(PYTEST) $(PYTEST_ARGS) $(ARGS)

test-core: $(STAMP) $(PACKAGES) ## The quick tests: no real processes
	@$(PYTEST) $(PYTEST_ARGS) -m "not processes and not ci" $(ARGS)

templates: $(STAMP) ## Every template of jobs runs and learns on toy models (`make test` has three of them)
	@$(PYTEST) -n 2 tests/jobs tests/training -m ci $(ARGS)

coverage: $(STAMP) ## protocol/ with every branch covered
	@$(PYTEST) tests/protocol -q --cov=distrai.protocol --cov-branch --cov-report=term-missing --cov-fail-under=100

lint: $(STAMP) ## Style: ruff check and ruff format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP) ## Mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

typecheck: $(STAMP) ## Types: mypy, strict
	@$(BIN)/mypy

imports: $(STAMP) ## Lower layers never import higher ones
	@$(BIN)/lint-imports

contracts: $(STAMP) $(PACKAGES) ## The contracts compile to exactly the committed artifacts
	@$(BIN)/python tools/check_contracts.py

invariants: $(STAMP) $(PACKAGES) ## Fuzz the contracts with forge, and find a seeded bug in each
	@$(BIN)/python tools/check_invariants.py

anvil: $(STAMP) $(PACKAGES) ## The tests of the contracts on anvil only (`make test` runs them on both chains)
	@DISTRAI_CHAIN=anvil $(PYTEST) tests/contracts $(ARGS)

slither: $(SLITHER) $(PACKAGES) ## What slither finds in the contracts, above low
	@$(BIN)/python tools/check_slither.py $(SLITHER)

$(SLITHER): tools/slither.txt | $(STAMP)
	@echo "Installing slither into $(dir $(SLITHER)) (once; a tool of its own, never shipped) ..."
	@$(PYTHON) -m venv --clear build/slither
	@build/slither/bin/python -m pip install --quiet --disable-pip-version-check -r tools/slither.txt
	@touch $@

licences: $(STAMP) ## What we ship may be shipped
	@$(BIN)/python tools/check_licences.py

wheel: $(STAMP) ## Build a wheel, and see that nothing is missing in it
	@rm -rf build/lib build/wheel
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w build/wheel .
	@$(BIN)/python tools/check_wheel.py build/wheel/*.whl

check: lint typecheck imports contracts licences wheel ## Everything but the tests

bench: $(STAMP) ## Measure everything, or NAME=codec_throughput; numbers go to build/bench (ARGS="--keep")
	@for name in $(or $(NAME),$(BENCHMARKS)); do \
		echo "== $$name"; OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$name.py $(ARGS); done

bench-check: $(STAMP) ## What was aimed for, beside the figures that are committed
	@$(BIN)/python benchmarks/bench_check.py

nightly: $(STAMP) $(PACKAGES) ## Every test with many more examples and seeds (hours)
	@HYPOTHESIS_PROFILE=nightly DISTRAI_SEEDS=$${DISTRAI_SEEDS:-2000} $(PYTEST) $(PYTEST_ARGS) -m "" $(ARGS)

clean: ## Remove what was built: environment, caches
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage* \
		src/*.egg-info contracts/.forge contracts/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
