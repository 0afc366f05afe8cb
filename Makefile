# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml tools/bootstrap.sh
	@tools/bootstrap.sh $(VENV)
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Create .venv with everything pinned by requirements.lock

.PHONY: packages
packages: $(STAMP) ## Install the Debian packages that tests and demo use (root only; says what is missing otherwise)
	@tools/debian-packages.sh test

.PHONY: demo
demo: $(STAMP) ## Tell the story on real disks in under two minutes
	@tools/debian-packages.sh demo
	@$(BIN)/python -m tools.demo

.PHONY: test
test: lint types layers unit integration ## What the gate runs: lint, types, layers, unit, integration

.PHONY: lint
lint: $(STAMP) ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(STAMP) ## mypy --strict: the package, benchmarks and tools
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases benchmarks tools

.PHONY: layers
layers: $(STAMP) ## import-linter: the rooms of the house
	$(BIN)/lint-imports

.PHONY: unit
unit: $(STAMP) ## Tests that need nothing but Python
	$(PYTEST) -n 2 -m "not integration and not soak"

.PHONY: integration
integration: packages ## Tests against real tools, file systems and guests
	$(PYTEST) -n 2 -m "integration and not soak"

.PHONY: soak
soak: packages ## Long explorations, fuzzing and fault storms; prints its seed
	$(PYTEST) -n 2 -m soak --timeout 7200

.PHONY: bench
bench: $(STAMP) ## The figures of docs/benchmarks.md, beside restic, borg, zstd and cp
	@tools/debian-packages.sh bench
	$(BIN)/python -m benchmarks

.PHONY: format
format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: $(STAMP) ## Pin all dependencies anew in requirements.lock
	@tools/lock.sh $(BIN)

.PHONY: clean
clean: ## Remove .venv and all caches
	rm -rf --one-file-system $(VENV) .build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
