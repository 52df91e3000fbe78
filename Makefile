# The project's commands; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo serve test cluster chaos soak rehearsal browser check format clean

# Variables that you can set: make test PYTHON=/opt/python3.12/bin/python3
PYTHON ?= python3.11 python3# interpreters that are tried, in this order, to make .venv
TORCH_INDEX ?=# URL of a package index with CPU-only builds of torch; if empty, pip uses its default index

BIN := .venv/bin
# constraints.txt has the version of every package, also of those that others bring along.
PIP := $(BIN)/python -m pip install --constraint constraints.txt
# Packages that mypy checks.
TYPED := metacross serve benchmarks samples
# torch is installed first and alone, so that only torch and its dependencies are looked up in TORCH_INDEX.
TORCH = $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "A target that needs .venv makes it first, with the versions of constraints.txt (minutes). demo and serve install"
	@echo "only what running needs; the other targets also install the development tools."
	@echo "Variables:"
	@echo "  PYTHON=path        Python 3.11 or newer for .venv (default: the first suitable one of $(PYTHON))"
	@echo "  TORCH_INDEX=url    package index with CPU-only builds of torch; without it, Linux gets the CUDA build (GBs)"

demo test cluster chaos soak rehearsal browser serve: export RAY_USAGE_STATS_ENABLED = 0

demo: .venv/.run-stamp ## train, compare and tag on the small corpus in samples/
	$(BIN)/python samples/demo.py

test: .venv/.dev-stamp ## run the test suite (a few minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 --dist loadfile

cluster: .venv/.dev-stamp ## test jobs, sweeps and lost nodes on Ray clusters on this machine (minutes)
	$(BIN)/python -m pytest -m cluster -n 3 --dist loadfile --no-loadscope-reorder

chaos: .venv/.dev-stamp ## test with repeated loss of workers, nodes, drivers and disks (many minutes)
	$(BIN)/python -m pytest -m chaos

soak: .venv/.dev-stamp ## test the service with 20,000 requests, and its memory (many minutes)
	$(BIN)/python -m pytest -m soak

rehearsal: .venv/.dev-stamp ## rehearse `ray up` on hosts that this machine plays (many minutes, as root)
	$(BIN)/python -m pytest -m rehearsal -s

serve: .venv/.run-stamp ## answer over HTTP on port 8000: make serve BUNDLE=runs/NAME/bundle
	$(BIN)/metacross serve "$(BUNDLE)"

browser: .venv/.dev-stamp ## test the service's page in Chromium (Debian and Ubuntu: apt-get install chromium)
	$(BIN)/python -m pytest -m browser tests/serve/web

check: .venv/.dev-stamp ## check formatting, lint, types and the import layers
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy $(TYPED)
	$(BIN)/lint-imports

format: .venv/.dev-stamp ## format the code and fix what the linter can fix
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean: ## remove caches and build files, but not .venv and runs
	rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . \( -path ./.venv -o -path ./.git -o -path ./runs \) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# Two stamps, because users who only run metacross do not need the development tools. A stamp is written last, so that
# the next make repeats an interrupted installation.
.venv/.run-stamp: pyproject.toml constraints.txt
	@new_enough='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(BIN)/python -c "$$new_enough" 2>/dev/null; then \
		for python in $(PYTHON); do \
			if "$$python" -c "$$new_enough" 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$${found:-}" ]; then \
			echo "metacross needs Python 3.11 or newer, which none of these is: $(PYTHON)." >&2; \
			echo "Name one: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
		"$$found" -m venv --clear .venv || { \
			echo "$$found cannot make a virtual environment (Debian and Ubuntu: install python3-venv)." >&2; exit 1; }; \
	fi
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") "$(TORCH)"
	$(PIP) -e ".[cpu]"
	@touch $@

.venv/.dev-stamp: .venv/.run-stamp
	$(PIP) -e ".[cpu,dev]"
	@touch $@
