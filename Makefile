# `make demo`, `make test`, `make quick`, `make lint`: each installs what it needs.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Another TensorFlow, to which nothing but the exported model is shown.
VENV217 := .venv-tf217
DEMO := runs/demo
DEMO_STEPS ?= 800
DEMO_TRAIN_IMAGES ?= 800
DEMO_VAL_IMAGES ?= 100
TEST_JOBS ?= 2
DEMO_OVERRIDE := {task: {train_data: {input_path: '$(DEMO)/data/train-*.tfrecord'}, validation_data: {input_path: '$(DEMO)/data/val-*.tfrecord'}}, trainer: {train_steps: $(DEMO_STEPS)}}
export TF_CPP_MIN_LOG_LEVEL := 3

# Lints JavaScript, CSS and HTML, those inside HTML too.
BIOME := @biomejs/biome@2.6.8

.PHONY: demo test quick lint install clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test,lint]'
	touch $@

$(VENV217)/installed: tests/serving/formats/tf217_requirements.txt
	$(PYTHON) -m venv $(VENV217)
	$(VENV217)/bin/pip install --quiet -r $<
	touch $@

# Scenes, training from scratch, predictions on unseen scenes and their AP: of
# the checkpoint, and of a SavedModel and a TFLite file made from it.
demo: install
	rm -rf $(DEMO)
	$(BIN)/panet data shapes --output_prefix $(DEMO)/data/train --num_images $(DEMO_TRAIN_IMAGES) --seed 1
	$(BIN)/panet data shapes --output_prefix $(DEMO)/data/val --num_images $(DEMO_VAL_IMAGES) --seed 2
	$(BIN)/python train.py --experiment=panet_shapes --mode=train --model_dir=$(DEMO)/model --params_override="$(DEMO_OVERRIDE)"
	$(BIN)/panet predict --model $(DEMO)/model --images $(DEMO)/data/val_images --annotations $(DEMO)/data/val.json --output_dir $(DEMO)/predictions
	$(BIN)/panet evaluate --predictions $(DEMO)/predictions/predictions.json --annotations $(DEMO)/data/val.json --output_dir $(DEMO)
	for format in saved_model tflite; do \
	  $(BIN)/python export.py --checkpoint_path=$(DEMO)/model --export_dir=$(DEMO)/$$format --format=$$format && \
	  $(BIN)/panet predict --model $(DEMO)/$$format$$(test $$format = tflite && echo /model.tflite) --images $(DEMO)/data/val_images --annotations $(DEMO)/data/val.json --output_dir $(DEMO)/$$format-predictions --max_pictures 8 && \
	  $(BIN)/panet evaluate --predictions $(DEMO)/$$format-predictions/predictions.json --annotations $(DEMO)/data/val.json --output_dir $(DEMO)/$$format-predictions || exit 1; \
	done
	@echo
	@echo "scenes       $(DEMO)/data/val_images/"
	@echo "model        $(DEMO)/model/"
	@echo "pictures     $(DEMO)/predictions/index.html"
	@echo "predictions  $(DEMO)/predictions/predictions.json"
	@echo "metrics      $(DEMO)/metrics.json"
	@echo "exports      $(DEMO)/saved_model/ $(DEMO)/tflite/, with their predictions beside them"

# A line of the file is what one process of pytest gets. More and shorter ones
# would import TensorFlow and build the same models more often, fewer would keep
# more memory: TensorFlow gives back little of it. The longest come first, so
# that those that keep most do not meet.
define in_processes
made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && \
export PANET_TEST_ARTEFACTS=$$made MALLOC_ARENA_MAX=2 && \
awk '{print NR}' $(1) | xargs -P $(TEST_JOBS) -I{} sh -c '\
  line=$$(sed -n {}p $(1)); \
  found=$$(eval "$(BIN)/python -m pytest -rs $$line" 2>&1); status=$$?; \
  printf "== %s\n%s\n" "$$line" "$$found"; exit $$status'
endef

test: install $(VENV217)/installed
	$(call in_processes,tests/processes.txt)

# What most changes break, in a minute.
quick: install
	$(call in_processes,tests/quick.txt)

# The page of a gallery only where npm can bring its linter.
lint: install
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	@if npx --yes $(BIOME) --version; then \
	  npx --yes $(BIOME) lint --error-on-warnings panet_tf/prediction/gallery; \
	else echo 'not linted, as npx cannot run $(BIOME): panet_tf/prediction/gallery'; fi

clean:
	rm -rf $(VENV) $(VENV217) runs build *.egg-info
