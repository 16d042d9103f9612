# Every target makes .venv if it is missing; nothing is assumed but Python 3.11 to 3.13, make, tar and g++.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: venv demo test lint wheel bench clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into .venv: some minutes, 3 GB"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip uninstall --quiet --yes costmodels  # what this project was called
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest --durations=25
	$(BIN)/python -m pytest --quiet --doctest-modules costmodels halide_style tvm_integration

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict costmodels halide_style
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
	rm -rf .venv build dist *.egg-info
