# Two commands do everything: `make run` and `make test`. Both make .venv if there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt
WORKERS ?= auto

.PHONY: help run test test-all check format clean
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/runtime.stamp  ## generate text with the default model and show how far it was from the roof
	@$(BIN)/ridgeway run

test: check  ## format check, lint, type check, tests
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-all: check  ## also the slow and statistical tests
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/test.stamp  ## format check, lint and type check alone
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/test.stamp  ## format the code and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and caches of the checkout (the model cache stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@echo "ridgeway: making $(VENV) ..." >&2
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"ridgeway needs Python 3.11 or newer, this is {v[0]}.{v[1]}: try make PYTHON=python3.12" if v < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "ridgeway: no virtual environment could be made; \
	on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/runtime.stamp: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "ridgeway: installing pinned dependencies (once, about a minute) ..." >&2
	@$(PIP) --editable .
	@touch $@

$(VENV)/test.stamp: $(VENV)/runtime.stamp
	@echo "ridgeway: installing what the tests need (torch and transformers are the oracle) ..." >&2
	@$(PIP) --editable '.[test]'
	@touch $@
