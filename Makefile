# The project's commands; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo serve test cluster chaos soak browser check format clean

# Variables of your own: make test PYTHON=/opt/python3.12/bin/python3
PYTHON ?= python3.11 python3# interpreters to try, in this order, for a new .venv
TORCH_INDEX ?=# address of a package index with CPU-only builds of torch; unset: the index pip uses anyway

BIN := .venv/bin
# What is type-checked.
TYPED := metacross serve benchmarks
# torch goes in first and alone, so that TORCH_INDEX is asked for nothing but torch and what it needs.
TORCH = $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)

help: ## explain every target
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "A target that finds no .venv makes it, with what pyproject.toml pins (minutes): demo and serve install what"
	@echo "running needs, the others the tools of development as well."
	@echo "Variables:"
	@echo "  PYTHON=path        Python 3.11 or newer for .venv (default: the first that will do of $(PYTHON))"
	@echo "  TORCH_INDEX=url    package index with CPU-only builds of torch; without it, Linux gets the CUDA build (GBs)"

# Ray's token authentication is for clusters that others can reach; these start their own on this machine.
demo test cluster chaos soak browser serve: export RAY_AUTH_MODE = disabled
demo test cluster chaos soak browser serve: export RAY_USAGE_STATS_ENABLED = 0

demo: .venv/.run-stamp ## show the whole method on the small corpus in samples/
	$(BIN)/python samples/demo.py

test: .venv/.dev-stamp ## run the test suite (a few minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 --dist loadfile

cluster: .venv/.dev-stamp ## test jobs, sweeps and lost nodes on Ray clusters of this machine (minutes)
	$(BIN)/python -m pytest -m cluster -n 2 --dist loadfile

chaos: .venv/.dev-stamp ## lose workers, nodes, drivers and disks again and again (many minutes)
	$(BIN)/python -m pytest -m chaos

soak: .venv/.dev-stamp ## send the service 20,000 requests and watch its memory (many minutes)
	$(BIN)/python -m pytest -m soak

serve: .venv/.run-stamp ## answer over HTTP on port 8000: make serve BUNDLE=runs/NAME/bundle
	$(BIN)/metacross serve "$(BUNDLE)"

browser: .venv/.dev-stamp ## test the service's page in Chromium (Debian and Ubuntu: apt-get install chromium)
	$(BIN)/python -m pytest -m browser tests/serve/web/test_page.py

check: .venv/.dev-stamp ## check formatting, lint, types and the directions of imports
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy $(TYPED)
	$(BIN)/lint-imports

format: .venv/.dev-stamp ## format the code and mend what the linter can mend
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean: ## remove caches and build leftovers; .venv and runs stay
	rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . \( -path ./.venv -o -path ./.git -o -path ./runs \) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# Two stamps: whoever only runs metacross is spared the tools of development. Each is written last, so an interrupted
# installation is taken up again by the next make.
.venv/.run-stamp: pyproject.toml
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
	$(BIN)/python -m pip install $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") "$(TORCH)"
	$(BIN)/python -m pip install -e ".[cpu]"
	@touch $@

.venv/.dev-stamp: .venv/.run-stamp
	$(BIN)/python -m pip install -e ".[cpu,dev]"
	@touch $@
