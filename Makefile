# Every target sets up only what it needs; make and Python 3.11 or later must be installed.
# PYTHON=python3.12 picks the interpreter, NAME= and OUT= the network and folder of the report,
# PYTEST_ARGS= adds options to pytest, WORKERS= is the number of test and zoo-check processes,
# ORGANISATION= is the owner of the repositories that zoo-publish pushes to,
# CHECK_ARGS= adds options to zoo/check.py, such as '--sample 2 --seed 0', CLAIMS_ARGS= to
# zoo/claims.py, such as lesions.

PYTHON ?= python3
NAME ?= nmda-a10
OUT ?= report
WORKERS ?= 2
PYTEST_ARGS ?=
CHECK_ARGS ?=
CLAIMS_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)
INSTALLED_CORE := $(VENV)/.installed-core
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help install report test test-slow lint docs bench zoo-check zoo-claims zoo-publish clean

help:
	@echo 'make install    environment in $(VENV), with placeformer and its test and docs tools'
	@echo 'make report     record and analyse $(NAME), write the HTML page to $(OUT)/'
	@echo 'make test       all tests except the slow ones'
	@echo 'make test-slow  the slow tests'
	@echo 'make lint       ruff, mypy and the layers of the sub-packages'
	@echo 'make docs       the documentation, warnings as errors, in docs/_build/html'
	@echo 'make bench      the table of speed compared with other programs, in benchmarks/results/'
	@echo 'make zoo-check  recompute every number of the zoo from its weights (CHECK_ARGS=)'
	@echo 'make zoo-claims measure new networks of the zoo and test claims on them (CLAIMS_ARGS=)'
	@echo 'make zoo-publish  push the networks of the zoo to a hub (ORGANISATION=)'
	@echo 'make clean      remove the environment and everything built'

install: $(INSTALLED)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'placeformer needs Python 3.11 or later; $(PYTHON) is'; $(PYTHON) --version; \
		echo 'Name another one, for example: make install PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'No virtual environment: on Debian and Ubuntu, install the package python3-venv.'; exit 1; }

$(INSTALLED_CORE): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing placeformer into $(VENV) (a few minutes the first time) ...'
	$(PIP) -e .
	@touch $@

$(INSTALLED): $(INSTALLED_CORE)
	@echo 'Installing the tools for tests and documentation ...'
	$(PIP) -e '.[test,docs]'
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) -e '.[dev]'
	@touch $@

report: $(INSTALLED_CORE)
	$(BIN)/placeformer report $(NAME) --out $(OUT)

test: install
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

test-slow: install
	$(PYTEST) -m slow $(PYTEST_ARGS)

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: install
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo 'The documentation is at docs/_build/html/index.html'

bench: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/table.py --save

zoo-check: install
	OMP_NUM_THREADS=1 $(BIN)/python zoo/check.py --workers $(WORKERS) $(CHECK_ARGS)

zoo-claims: install
	OMP_NUM_THREADS=1 $(BIN)/python zoo/claims.py $(CLAIMS_ARGS)

zoo-publish: install
	$(BIN)/python zoo/publish.py $(if $(ORGANISATION),--organisation $(ORGANISATION))

clean:
	rm -rf $(VENV) $(OUT) build dist docs/_build docs/generated \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis
