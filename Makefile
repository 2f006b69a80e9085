# `make demo` and `make test` are all a new machine needs: Python 3.11 or newer, make, and a
# package index that pip can reach. Everything is installed into .venv and nothing elsewhere.

SHELL := /bin/sh
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test lint types check bench clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

help:
	@echo "make demo    set up and scan the sample audit log"
	@echo "make test    set up and run the tests"
	@echo "make lint    ruff: rules and formatting"
	@echo "make types   mypy --strict"
	@echo "make check   test, lint and types"
	@echo "make bench   whole-process benchmarks (takes minutes)"
	@echo "make clean   remove .venv, caches and generated data"

# The scan's exit code 1 means "alerts found": that is the demo going well.
demo: $(VENV)/.installed
	@$(BIN)/barrelman scan examples/audit.log --format table || test $$? -eq 1
	@echo "next: $(BIN)/barrelman serve --demo" >&2

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -n auto -q

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	@$(BIN)/mypy

check: test lint types

bench: $(VENV)/.installed-bench
	@$(BIN)/python benchmarks/compare.py $(or $(SUITES),all) --mib $(or $(MIB),2048)

clean:
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist benchmarks/data
	@find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The package is installed editable, so only a change of its metadata asks for a new install.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing barrelman into $(VENV)" >&2
	@$(PIP) --editable '.[serve]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing barrelman and its test tools into $(VENV)" >&2
	@$(PIP) --editable '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-bench: pyproject.toml | $(BIN)/python
	@echo "installing barrelman and what it is measured against into $(VENV)" >&2
	@$(PIP) --editable '.[bench]'
	@touch $(VENV)/.installed $@

# PYTHON=… picks an interpreter; otherwise the first one that is new enough and has venv.
$(BIN)/python:
	@chosen=; \
	for candidate in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			chosen=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$chosen" ]; then \
		echo "make: Barrelman needs Python 3.11 or newer and found none;" \
			"install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
		exit 1; \
	fi; \
	"$$chosen" -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo "make: '$$chosen -m venv' failed; on Debian and Ubuntu install python3-venv" >&2; \
		exit 1; \
	}
