# `make` alone prints what there is. Each target prepares what it needs, so any of them works in a bare clone.
#
#   PYTHON       the interpreter .venv is made from (3.11 or later)
#   EXTRAS       the extras of pyproject.toml that are installed
#   WORKERS      test processes
#   TORCH        a pip requirement or wheel file, instead of the tested torch
#   TORCH_INDEX  where the CPU build of torch is looked for when pip's own sources lack it

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-gpu check format bench

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
EXTRAS ?= train,dev
WORKERS ?= 2

# The stamp's name changes with whatever decides what is installed, so an unchanged set-up costs nothing.
DECIDES := pyproject.toml constraints.txt scripts/install_torch.py
STAMP := .venv/setup-$(shell { cat $(DECIDES); echo '$(EXTRAS)'; } | cksum | cut -d ' ' -f 1)
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest --dist loadfile

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP) ## make .venv with everything that running and testing need
	@echo 'setup: .venv is ready'

$(STAMP):
	@test -n '$(PYTHON)' || { echo 'setup: no Python 3.11 or later found; install one or set PYTHON' >&2; exit 1; }
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || '$(PYTHON)' -m venv .venv
	@.venv/bin/python scripts/install_torch.py
	.venv/bin/python -m pip install -qq -c constraints.txt -c .venv/torch-constraint.txt -e '.[$(EXTRAS)]'
	@if [ -f scripts/install_browser.sh ]; then bash scripts/install_browser.sh \
		|| echo 'setup: note: no browser could be installed; tests that need one will be skipped'; fi
	@rm -f .venv/setup-*; touch $@

demo: ## set up, then tune and judge the built-in model on built-in data
	@begun=$$(date +%s) && $(MAKE) --no-print-directory setup && ready=$$(date +%s) && \
	.venv/bin/sightline run recipes/demo.yaml && done=$$(date +%s) && \
	echo "set-up $$((ready - begun)) s, study $$((done - ready)) s"

test: $(STAMP) ## the tests that need no GPU, no network and little time
	$(PYTEST) -n $(WORKERS)

test-slow: $(STAMP) ## the slow tests
	$(PYTEST) -n $(WORKERS) -o faulthandler_timeout=3600 -m 'slow and not gpu and not network'

test-gpu: $(STAMP) ## the tests that need a CUDA device
	$(PYTEST) -m gpu

check: $(STAMP) ## lint, formatting and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

format: $(STAMP) ## put the code into the house's format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: $(STAMP) ## the benchmarks that take minutes on any machine; benchmarks/README.md has the others
	@for name in tree_vs_flat grid; do echo "$$name"; .venv/bin/python benchmarks/bench_$$name.py; done
