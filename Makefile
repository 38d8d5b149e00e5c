# make demo     train the paper's method on the built-in cities, from nothing, in minutes
# make test     lint, types and every test, from nothing
# make lint     lint and types only
# make format   mend what the linter can
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNS := runs/toy_cities
TRAIN := $(BIN)/python -m alp_jax.main
CONFIG := configs/toy_cities.py

.PHONY: demo test lint format clean

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m data_prep.toy_cities --data_dir=datasets
	$(TRAIN) --config=$(CONFIG):warmup --workdir=$(RUNS)/warmup
	$(TRAIN) --config=$(CONFIG):source_only --workdir=$(RUNS)/source_only
	$(TRAIN) --config=$(CONFIG):alp_gi --workdir=$(RUNS)/alp_gi
	$(TRAIN) --mode=evaluate --workdir=$(RUNS)/source_only --split=test
	$(TRAIN) --mode=evaluate --workdir=$(RUNS)/alp_gi --split=test
	@echo "Done. Source-only is in $(RUNS)/source_only, ALP in $(RUNS)/alp_gi:"
	@echo "  evaluation/step_500_test.json   scores on the target's test split"
	@echo "  evaluation/step_500_test.png    pictures"
	@echo "  metrics.jsonl                   losses; or: $(BIN)/tensorboard --logdir=$(RUNS)"

test: lint
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs datasets
