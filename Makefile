# `make demo` and `make test` set up everything they need in $(VENV) and reuse it afterwards.

VENV   ?= .venv
PYTHON ?= python3
CASE   ?=
VIEW   ?=

PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --disable-pip-version-check --constraint Testing/constraints.txt
LOCK   := pyproject.toml Testing/constraints.txt

# Half the threads' time goes into waiting for each other when test workers bring threads of their own.
TEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench screenshots docs clean

help: ## Show what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit("SOFA needs Python 3.11 or newer; call make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# PyTorch first and alone: a package that depends on it must find it, not choose another build.
$(VENV)/.torch: Testing/constraints.txt | $(PY)
	@echo "Installing PyTorch (several hundred megabytes, once)"
	@$(PIP) torch
	@touch $@

$(VENV)/.demo: $(VENV)/.torch $(LOCK)
	@echo "Installing SOFA"
	@$(PIP) --editable . nilearn
	@touch $@

$(VENV)/.app: $(VENV)/.demo
	@echo "Installing the engine process and the browser face"
	@$(PIP) --editable '.[app]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo Testing/system-packages.sh
	@sh Testing/system-packages.sh
	@echo "Installing what the tests need"
	@$(PIP) --editable '.[app,train,cluster,test]'
	@touch $@

demo: $(VENV)/.demo $(if $(VIEW),$(VENV)/.app) ## Segment a case: the built-in one, or CASE=folder; VIEW=1 opens it in a browser
	@$(VENV)/bin/sofa demo --out demo $(if $(CASE),--case "$(CASE)") $(if $(VIEW),--view)

# Tests with real processes and browsers may starve on a busy machine; one that fails is run once more, and the
# summary says so.
test: $(VENV)/.test ## Run all tests
	@$(PY) -m pytest -n $(TEST_WORKERS) --dist loadfile --reruns 1

lint: $(VENV)/.test ## Check style, types and layers
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: $(VENV)/.test ## Bring the code into the common style
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: $(VENV)/.test ## Time the engine against the plain way, in one run
	@$(PY) Testing/bench/run.py

screenshots: $(VENV)/.test ## Take the pictures of the Slicer module anew: CASE=folder of a BraTS 2021 case
	@$(PY) Testing/take_screenshots.py "$(CASE)"

clean: ## Remove what was made, the virtual environment too
	@rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
