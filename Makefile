# make demo     train the paper's method on the built-in cities, from nothing, in minutes
# make test     lint, types and every test, from nothing
# make results  every table and figure of docs/results, hours; continues where it was stopped
# make docs     the documentation, in site/; a link to nowhere is an error
# make lint     lint and types only
# make format   mend what the linter can
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What training needs, and also what tests and documentation need.
INSTALLED := $(VENV)/.installed
INSTALLED_FOR_TESTS := $(VENV)/.installed_for_tests
RUNS := runs/toy_cities
TRAIN := $(BIN)/python -m alp_jax.main
CONFIG := configs/toy_cities.py

STUDY := $(BIN)/python -m alp_jax.study --config=$(CONFIG) --starts=runs/starts --seeds=5
BOTH := --methods=source_only,agp_gi,alp_gi
FOUR_LAYERS := --config.terms.adversarial.widths=16,32,64
PATCH_SIZES := $(FOUR_LAYERS) --sweep=patch_size:16,24,32,48,64
DECISIONS := --sweep=decision:cell,patch
SHIFT := $(BIN)/python -m alp_jax.domain_shift --config=configs/domain_shift.py:toy_cities
NO_SHIFT := --config.data.target=toy_cities/target_unlabelled_camera0.00 \
    --config.evaluation.dataset=toy_cities/target_camera0.00

.PHONY: demo test results docs lint format clean

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(INSTALLED_FOR_TESTS): $(INSTALLED)
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

results: $(INSTALLED)
	$(BIN)/python -m data_prep.toy_cities --data_dir=datasets
	$(BIN)/python -m data_prep.toy_cities --data_dir=datasets --camera_shift=0
	$(STUDY) --workdir=runs/toy_study \
	    --methods=source_only,ap_ci,ap_ci_equal_pixels,agp_gi,alp_gi
	$(BIN)/python -m alp_jax.study --mode=report --workdir=runs/toy_study
	$(STUDY) --workdir=runs/lambda $(BOTH) --sweep=adversarial.weight:0.001,0.003,0.01,0.03,0.1
	$(STUDY) --workdir=runs/patch_size $(BOTH) $(PATCH_SIZES)
	$(STUDY) --workdir=runs/patch_size_camera_0 $(NO_SHIFT) $(BOTH) $(PATCH_SIZES)
	$(STUDY) --workdir=runs/decision $(BOTH) $(DECISIONS)
	$(STUDY) --workdir=runs/decision_four_layers $(BOTH) $(FOUR_LAYERS) $(DECISIONS)
	$(STUDY) --workdir=runs/batch_norm --config.model.backbone.batch_norm_mode=running \
	    --methods=source_only,target_bn,agp_gi,alp_gi
	$(STUDY) --workdir=runs/camera_1 $(BOTH)
	$(STUDY) --workdir=runs/camera_0 $(NO_SHIFT) $(BOTH)
	$(BIN)/python -m alp_jax.study --mode=compare --workdir=runs/camera_shift \
	    --studies=runs/camera_1,runs/camera_0
	$(SHIFT) --output=runs/shift_camera_1
	$(SHIFT) --output=runs/shift_camera_0 \
	    --config.data.target=toy_cities/target_train_labels_camera0.00 \
	    --config.data.target_validation=toy_cities/target_camera0.00

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=10

docs: $(INSTALLED_FOR_TESTS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(INSTALLED_FOR_TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED_FOR_TESTS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs datasets site
