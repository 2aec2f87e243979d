# Every command of this repository. `make` alone lists them. Nothing is written outside the checkout and the temporary folder.

PYTHON ?=
WORKERS ?= 2
CONSENTRY_SHARED ?= ../shared
VECTORS ?= $(CONSENTRY_SHARED)/vectors/decision.json
LOCK_FLAGS ?=
BENCH ?=

BIN := .venv/bin
READY := .venv/.ready
LOCK := UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip compile --quiet --python $(BIN)/python --universal --python-version 3.11 \
	--generate-hashes --no-header --no-emit-package consentry --no-emit-package consentry-protos \
	--no-emit-package consentry-client $(LOCK_FLAGS) pyproject.toml

export BUF_CACHE_DIR := $(CURDIR)/.cache/buf
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export UV_CACHE_DIR := $(CURDIR)/.cache/uv
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_USER := 0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all check check-format check-code check-types check-layers check-protos check-docs \
	fmt protos docs bench conformance lock clean

help: ## List these commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## Make the environment in .venv; every other command does this by itself.
	@echo "The environment in .venv is ready ($$($(BIN)/python --version))."

demo: $(READY) ## Start a feed and a sidecar and show, step by step, a choice taking effect.
	@$(BIN)/python -m tests.e2e.demo

test: $(READY) ## Run the tests, without those marked `long`.
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not long"

test-all: $(READY) ## Run all tests, the long fault and soak tests too.
	$(BIN)/python -m pytest -q -n $(WORKERS)

check: check-format check-code check-types check-layers check-protos check-docs ## Run every static check and compare what is generated.

check-format: $(READY)
	$(BIN)/ruff format --check --diff

check-code: $(READY)
	$(BIN)/ruff check

check-types: $(READY)
	$(BIN)/mypy

check-layers: $(READY)
	$(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter

# A contract may grow and must not break what is on main; before the first contract is there, there is nothing to break.
check-protos: $(READY)
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	$(BIN)/python protos/generate.py --check
	@base=$$(git rev-parse -q --verify 'origin/main^{commit}' 2>/dev/null || git rev-parse -q --verify 'main^{commit}' 2>/dev/null); \
	if [ -n "$$base" ] && git cat-file -e "$$base:protos/buf.yaml" 2>/dev/null; then \
		rm -rf .cache/contracts && mkdir -p .cache/contracts && \
		git archive "$$base" protos | tar -x -C .cache/contracts && \
		cd protos && ../$(BIN)/buf breaking --against ../.cache/contracts/protos && \
		echo "contracts: compatible with main"; \
	else \
		echo "contracts: none on main yet to compare with"; \
	fi

check-docs: $(READY)
	$(BIN)/python docs/generate.py --check

fmt: $(READY) ## Format the code and the contracts, and mend what can be mended safely.
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format
	cd protos && ../$(BIN)/buf format --write

protos: $(READY) ## Generate the Python code of the contracts.
	$(BIN)/python protos/generate.py

docs: $(READY) ## Generate the configuration and command reference.
	$(BIN)/python docs/generate.py

bench: $(READY) ## Measure, and print figures with the machine they hold for (BENCH=NAME for one).
	$(BIN)/python -m benchmarks $(BENCH)

conformance: $(READY) ## Run decision cases through the function and through a sidecar (VECTORS=FILE).
	$(BIN)/python -m tests.conformance "$(VECTORS)"

lock: $(READY) ## Resolve the dependencies again and write requirements/ (LOCK_FLAGS=--upgrade for the newest).
	$(LOCK) --output-file requirements/runtime.lock
	$(LOCK) --group dev --output-file requirements/dev.lock

clean: ## Remove everything that these commands have made, the environment too.
	rm -rf .cache .venv .hypothesis build dist demo-run
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One set-up for all, run again when a dependency has changed. What is installed is what the lock file's hashes name.
$(READY): pyproject.toml clients/python/pyproject.toml protos/gen/python/pyproject.toml requirements/dev.lock
	@is_fit='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$is_fit" 2>/dev/null; then \
		chosen=; \
		for candidate in "$(PYTHON)" python3.13 python3.12 python3.11 python3 python; do \
			if [ -n "$$candidate" ] && "$$candidate" -c "$$is_fit" 2>/dev/null; then chosen=$$candidate; break; fi; \
			if [ -n "$(PYTHON)" ]; then break; fi; \
		done; \
		if [ -z "$$chosen" ]; then \
			echo "Consentry needs Python 3.11 or newer with its venv module, and found none." >&2; \
			echo "Install one (Debian and Ubuntu: python3 and python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2; \
			exit 1; \
		fi; \
		echo "Making .venv with $$("$$chosen" --version); this is done once and takes a minute or two."; \
		"$$chosen" -m venv --clear .venv; \
	fi
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation \
		--editable protos/gen/python --editable clients/python --editable .
	@$(BIN)/python -m pip check --quiet
	@touch $@
