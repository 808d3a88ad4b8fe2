# Each target makes the virtual environment it needs. The stamps are rebuilt only when
# pyproject.toml or constraints.txt changes, so a second run installs nothing.

PYTHON ?= $(shell for p in python3 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_WORKERS ?= 2

# Builds run in an environment of their own: these make pip pin that one, too.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt

# One thread per process: the processes of pytest share the cores already.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help demo test pytest lint format doc clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    run the quick start"
	@echo "make test    lint, then the tests, the doctests, the blocks of README and guide"
	@echo "make pytest  the tests alone"
	@echo "make lint    ruff, mypy, import-linter, codespell, numpydoc validation"
	@echo "make format  let ruff format and repair what it can"
	@echo "make doc     the documentation, in doc/_build/html"
	@echo "make clean   remove what the other targets made"

$(STAMP)-core: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[plot]'
	@touch $@

$(STAMP)-test: $(STAMP)-core
	$(INSTALL) -e '.[plot,progress,test,dev]'
	@touch $@

$(STAMP)-doc: $(STAMP)-core
	$(INSTALL) -e '.[plot,progress,doc]'
	@touch $@

demo: $(STAMP)-core
	MPLBACKEND=Agg $(BIN)/python examples/plot_01_quickstart.py

test: lint pytest

pytest: $(STAMP)-test
	$(ONE_THREAD) MPLBACKEND=Agg $(BIN)/python -m pytest -n $(PYTEST_WORKERS) \
		--dist worksteal --doctest-modules tests skdistill

lint: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/numpydoc lint $$(find skdistill -name '*.py')

format: $(STAMP)-test
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

doc: $(STAMP)-doc
	MPLBACKEND=Agg $(BIN)/python -m sphinx -b html -W -n --keep-going doc doc/_build/html

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		.import_linter_cache doc/_build doc/auto_examples doc/generated \
		doc/sg_execution_times.rst
	find doc examples skdistill tests -name __pycache__ -type d -prune -exec rm -rf {} +
