# Every target does its own set-up: a Python >= 3.12 somewhere on the machine is enough.
#
#   VENV=DIR      the environment (.venv)
#   PYTHON=3.13   the interpreter to make it with, as a version or a path
#   ARGS=...      further arguments of pytest
.DEFAULT_GOAL := help
SHELL := bash

VENV ?= .venv
# Only what was set for make: the scripts choose an interpreter themselves.
export VENV PYTHON
# Where it is set, every process would compile everything that it imports, each time.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: venv ## Run the main job on simulated data, in containers where that can be
	@scripts/demo

.PHONY: test
test: venv-dev ## Run all tests; with a Docker engine, those in containers too
	@scripts/prepare-images
	@scripts/test $(ARGS)

.PHONY: test-quick
test-quick: venv-dev ## Run the tests that need no engine and no patience
	@$(BIN)/pytest -m "not docker and not slow" $(ARGS)

.PHONY: bench
bench: venv-dev ## Measure the reader against canvod-readers (ARGS=--daily: a day at 1 Hz)
	@$(BIN)/python benchmarks/reader.py $(ARGS)

.PHONY: bench-ingest
bench-ingest: venv-dev ## Measure the ingest of a receiver-day against canvod-readers (ARGS=--data DIR: of these files)
	@scripts/prepare-images
	@$(BIN)/python benchmarks/ingest.py $(ARGS)

.PHONY: check
check: lint types imports lock-check ## Run lint, types, imports and lock-check

.PHONY: lint
lint: venv-dev ## Check style and format with ruff, and that docstrings are complete
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/python scripts/check-docstrings

.PHONY: format
format: venv-dev ## Format, and repair what ruff can repair
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

.PHONY: types
types: venv-dev ## Check types with mypy --strict
	@$(BIN)/mypy

.PHONY: imports
imports: venv-dev ## Check the direction of imports, and that CONTRIBUTING.md draws them
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/draw-packages --check

.PHONY: draw
draw: venv-dev ## Draw the packages and their imports in CONTRIBUTING.md
	@$(BIN)/python scripts/draw-packages

.PHONY: lock
lock: venv ## Write the lock files (UPGRADE=1: with the newest versions)
	@scripts/lock $(if $(UPGRADE),--upgrade)

.PHONY: lock-check
lock-check: venv ## Check that the lock files are what pyproject.toml asks for
	@scripts/lock --check

.PHONY: build
build: venv ## Build the wheel and the source distribution into dist/
	@rm -rf dist
	@$(BIN)/hatchling build
	@ls -1 dist

.PHONY: images
images: venv ## Build the images of scheduler and worker
	@scripts/prepare-images
	@$(BIN)/canvod-launch build

.PHONY: compose-base
compose-base: venv ## Prepare docker compose build where no registry answers
	@scripts/prepare-images
	@$(BIN)/canvod-launch build --for-compose

.PHONY: compose-user
compose-user: ## Write into .env whose containers those of compose.yaml are, and make ./data and ./stores theirs
	@scripts/compose-user

.PHONY: compose-file
compose-file: venv ## Write compose.yaml from the code that canvod-launch compose uses
	@$(BIN)/python scripts/compose-file

.PHONY: venv
venv: ## Make the environment
	@scripts/bootstrap --venv $(VENV)

.PHONY: venv-dev
venv-dev: ## Make the environment with what tests and checks need
	@scripts/bootstrap --dev --venv $(VENV)

.PHONY: clean
clean: ## Remove everything that make has made, the environments too
	@rm -rf .venv .venv-* .cache build dist demo .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
