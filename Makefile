# Two commands do everything, set-up included: `make demo` and `make test`. Needs Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
INSTALLED := .venv/.installed
unexport PYTHONDONTWRITEBYTECODE # else every process compiles torch again

.PHONY: demo test test-slow fuzz install clean

demo: install
	$(BIN)/sbirlib demo

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup -m slow

N ?= 10000
SEED ?= 0
fuzz: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --cases $(N) --seed $(SEED) --jobs 2

install: $(INSTALLED)

$(INSTALLED): pyproject.toml $(PLUGINS:%=%/pyproject.toml) constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sbirlib needs Python 3.11 or newer; say which one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable ".[dev]" $(PLUGINS:%=--editable %)
	@touch $@

clean:
	rm -rf .venv demo runs
