# Every target makes .venv if it is missing; nothing is assumed but Python 3.11 to 3.13, make, tar and g++.
PYTHON ?= python3.11
# Another Python to try the least on, if the machine has one.
OTHER ?= $(shell for each in python3.13 python3.12; do $$each -c pass 2>/dev/null && echo $$each && break; done)
BIN := .venv/bin
# Tests whose outcome does not hang on how long anything takes: two at a time.
UNTIMED := tests/costmodels tests/halide_style \
	$(addprefix tests/tvm_integration/,frontends learn records tir zoo)
STAMP := .venv/.installed

.PHONY: venv demo test test-all smoke lint wheel bench clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into .venv: some minutes, 3 GB"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip uninstall --quiet --yes costmodels  # what this project was called
	rm -rf costmodels.egg-info
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

# What CI has time for; `test-all` leaves nothing out.
test: WHICH := -m "not exhaustive"
test test-all: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --durations=10 --numprocesses=2 --dist=loadfile $(WHICH) $(UNTIMED)
	$(BIN)/python -m pytest --durations=25 $(WHICH) $(UNTIMED:%=--ignore=%)
	$(BIN)/python -m pytest --quiet --doctest-modules costmodels halide_style tvm_integration

smoke:
	test -n "$(OTHER)" || echo "no other Python is here: nothing to try"
	test -z "$(OTHER)" || $(OTHER) -m venv .venv-other
	test -z "$(OTHER)" || .venv-other/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt .
	test -z "$(OTHER)" || (cd scripts && ../.venv-other/bin/python smoke.py)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	rm -rf build
	ls dist

bench: $(STAMP)
	$(BIN)/python scripts/benchmark_workers.py
	$(BIN)/python scripts/benchmark_search.py
	$(BIN)/python scripts/benchmark_model.py
	$(BIN)/python scripts/benchmark_collect.py
	$(BIN)/python scripts/leaderboard.py

clean:
	rm -rf .venv .venv-other build dist *.egg-info
