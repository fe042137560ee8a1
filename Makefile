# `make demo` and `make test` work from a fresh clone: they create .venv and install into it once.
# The environment is made anew only when pyproject.toml or constraints.txt change.

PYTHON ?= python3
JOBS   ?= 2
KILLS  ?= 200
MUTATIONS ?= 5000
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

# Tests run in JOBS processes, so each of them gets one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint types docs faults bench clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(READY) ## create .venv and install metaprune with its development tools

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("metaprune needs Python 3.11 or newer (got %d.%d): make PYTHON=python3.11 ..." % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# torch first and by its exact version, so that no other package chooses another build of it.
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## train small CNNs, prune them and compare, in under three minutes
	$(BIN)/metaprune demo

test: $(READY) ## every quick test
	$(PYTEST)

test-slow: $(READY) ## the long tests
	$(PYTEST) -m slow

lint: $(READY) ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## static types
	$(BIN)/mypy

docs: $(READY) ## the documentation: pages from the records of what was measured, then the site (site/index.html)
	$(BIN)/python -m benchmarks.pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

faults: $(READY) ## kills, full disks, damaged files, counted (hours; KILLS=20 MUTATIONS=500 for less)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults --kills $(KILLS) --mutations $(MUTATIONS)

bench: $(READY) ## benchmarks, results on the screen
	$(BIN)/python benchmarks/metanet_speed.py

clean: ## remove the environment and every cache
	rm -rf $(VENV) *.egg-info build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
