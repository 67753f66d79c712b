# Every target sets itself up from nothing but python3, make and a network, and is quick the second time.
# $(PYTHON) may name another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-unit coverage proof check bench clean

include tools.mk
include bench.mk

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the product, Flower and the embedded broker

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "setting up $(VENV) (half a minute the first time)"
	@$(PIP) install -e '.[flower,embedded]'
	@touch $@

$(READY_DEV): $(READY)
	@echo "adding what tests and checks need"
	@$(PIP) install -e '.[flower,embedded,test,check]'
	@touch $@

demo: $(READY) ## Watch a live database being backed up, damaged and restored
	@$(BIN)/python deploy/demo.py

up: $(READY) ## Run broker, workers, beat and Flower for the configuration in CONTINUUM_CONFIG_DIR
	@$(BIN)/continuum up

# Hundreds of short processes are started: each would compile the product anew.
unexport PYTHONDONTWRITEBYTECODE

# Half of what the tests do is to wait for processes, so there is one worker more than cores.
TEST_WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))
PYTEST := $(BIN)/pytest -q --durations=25 -n $(TEST_WORKERS) --dist loadgroup
FORMATS := */continuum_tasks/layer/*,*/continuum_tasks/segment/*,*/continuum_tasks/wal/*,*/continuum_tasks/history/*,*/continuum_tasks/*/plan/*
MEASURED := rm -f .coverage .coverage.*; $(PYTEST) --cov --cov-report= --cov-fail-under=0 || failed=1; \
	$(BIN)/coverage report || failed=1; $(BIN)/coverage report --fail-under=100 --include='$(FORMATS)' || failed=1

test: $(READY_DEV) tools ## Run every test, in minutes (docs/TESTING.md)
	@$(PYTEST)

test-unit: $(READY_DEV) ## Run the quick unit tests: no server, seconds
	@$(BIN)/pytest -q -n $(TEST_WORKERS) tests/unit -m "not slow and not proof"

coverage: $(READY_DEV) tools ## Run every test and hold what it covers to the floors
	@failed=0; $(MEASURED); exit $$failed

proof: $(READY_DEV) tools ## Run the long tests, the whole of every matrix, and coverage: an hour or two
	@failed=0; CONTINUUM_TEST_PROOF=1 $(PYTEST) -m "(proof or sampled) and not alone" || failed=1; \
	CONTINUUM_TEST_PROOF=1 $(BIN)/pytest -q --durations=25 -m alone || failed=1; \
	$(MEASURED); exit $$failed

check: $(READY_DEV) ## Lint, types, house rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(READY) ## Measure against sqlite3 .backup, restic and borg; prints ratios
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks capture --size 256M

clean: ## Remove everything that was made
	@rm -rf $(VENV) .tools .demo .bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
