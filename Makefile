# Recipes for people and for CI; `make` alone explains them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help quickstart test test-slow lint bench accuracy validate clean

help:  ## Explain the recipes
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints/cpu.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/cpu.txt -e '.[all]'
	touch $@

quickstart: $(STAMP)  ## Install, run the quick-start search, print its Pareto table and the path of its report
	$(BIN)/cosearch run configs/searches/quickstart.yaml --out runs/quickstart

test: $(STAMP)  ## Install and run the test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(STAMP)  ## The studies that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)  ## Speed of our side, as figures
	$(BIN)/python benchmarks/dram_speed.py
	$(BIN)/python benchmarks/pim_speed.py

accuracy: $(STAMP)  ## Zoo models on Frappe beside their leaderboard, three seeds (an hour; resumes)
	$(BIN)/python benchmarks/zoo_accuracy.py --seeds 3

validate: $(STAMP)  ## Published numbers and reference simulators beside ours
	$(BIN)/pimsim validate

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build dist
