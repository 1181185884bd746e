# Two commands do everything, set-up included: `make demo` and `make test`. Needs Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
INSTALLED := .venv/.installed
unexport PYTHONDONTWRITEBYTECODE # else every process compiles torch again

.PHONY: help demo test test-slow docs release coverage fuzz install clean

help: # this list
	@sed -n 's/^\([a-z-]*\):[^#=]*# /\1	/p' $(MAKEFILE_LIST) | expand -t 14

demo: install # trains MATHM on an embedded synthetic set, and ends with the command that opens a page over it
	$(BIN)/sbirlib demo

test: install # every check: ruff, mypy, import-linter, pytest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

test-slow: install # the tests that take minutes each
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m slow

N ?= 10000
SEED ?= 0
fuzz: install # N altered files of every format, from SEED
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --cases $(N) --seed $(SEED) --jobs 2

install: $(INSTALLED) # the environment .venv, with all extras

$(INSTALLED): pyproject.toml $(PLUGINS:%=%/pyproject.toml) constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sbirlib needs Python 3.11 or newer; say which one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable ".[dev]" $(PLUGINS:%=--editable %)
	@touch $@

docs: install # the site, into site/index.html; any warning, a broken link among them, is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs site

release: install # wheels of core and plugins in dist/, installed from the files into an empty environment, where the quickstart runs
	rm -rf dist
	for package in . $(PLUGINS); do $(BIN)/uv build --quiet --wheel --out-dir dist $$package || exit 1; done
	$(PYTHON) -m venv dist/empty
	$(BIN)/uv pip install --quiet --python dist/empty/bin/python --constraint constraints.txt dist/*.whl
	cd dist && empty/bin/sbirlib plugins --check && empty/bin/python ../examples/quickstart.py
	rm -rf dist/empty

coverage: install # lines of src and plugins that the tests reach, as a table and in coverage/
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --cov=src --cov=plugins --cov-report=term --cov-report=html:coverage

clean: # removes .venv, demo, runs, site, dist and coverage
	rm -rf .venv demo runs site dist docs/reference coverage .coverage
