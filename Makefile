# Everything that a developer or CI runs. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

BENCH_READY := $(VENV)/.bench-ready
FILMS := $(if $(IMAGES),--images $(IMAGES))

# A machine with a GPU has its own PyTorch and often no network, so `make gpu` installs nothing but carried wheels.
DEVICE ?= cuda
MINUTES ?= 8
OUT ?= benchmarks/results
GPU_PYTHON := $(if $(wildcard $(READY)),$(BIN)/python,$(PYTHON))
GPU_PACKAGES := $(CURDIR)/build/gpu-packages

.PHONY: help demo test test-slow test-stress lint types check bench gpu gpu-carry clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(BENCH_READY): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

demo: $(READY) ## draw synthetic hands, make shards, train, evaluate: five minutes on two cores
	$(BIN)/wds-bone make-shards --out runs/demo/shards
	$(BIN)/wds-bone train --train runs/demo/shards --out runs/demo/model --epochs 20 --image-size 64
	$(BIN)/wds-bone evaluate --checkpoint runs/demo/model/best.pt --shards runs/demo/shards --split val --out runs/demo/report
	@echo
	@echo "films      runs/demo/shards/*.png"
	@echo "numbers    runs/demo/report/metrics.json"
	@echo "figures    runs/demo/report/*.png"

test: $(READY) ## run the tests that every change must pass: six minutes on two cores
	$(PYTEST)

test-slow: $(READY) ## run the tests with subprocesses, kills and real trainings: half an hour
	$(PYTEST) -m 'slow and not stress' --timeout 900

test-stress: $(READY) ## kill a training a hundred times, stop another twenty times: a quarter of an hour
	$(BIN)/python -m pytest -m stress

lint: $(READY) ## check format and rules with ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY) ## check the types with mypy
	$(BIN)/mypy

check: lint types test ## run everything that must pass before a commit

bench: $(BENCH_READY) ## run the benchmarks with all peers, an hour and a half; IMAGES=FOLDER uses real films
	for size in 256 512; do for encoding in jpg png npy; do \
	    $(BIN)/python -m benchmarks.loader --size $$size --encoding $$encoding $(FILMS) || exit 1; done; done
	$(BIN)/python -m benchmarks.cold $(FILMS)
	$(BIN)/python -m benchmarks.memory $(FILMS)
	$(BIN)/python -m benchmarks.resume
	$(BIN)/python -m benchmarks.shuffle
	$(BIN)/python -m benchmarks.writer $(FILMS) --repeat 10
	$(BIN)/python -m benchmarks.headspace
	$(BIN)/python -m benchmarks.remote $(FILMS)

gpu: ## check a GPU: PART=tests|headspace|loader|train (default: all), eight minutes each; DEVICE=cpu tries it out
	$(if $(WHEELS),$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target $(GPU_PACKAGES) $(WHEELS)/*.whl)
	PYTHONPATH=$(CURDIR):$(GPU_PACKAGES):$(PYTHONPATH) $(GPU_PYTHON) -m benchmarks.gpu $(PART) --device $(DEVICE) --minutes $(MINUTES) --out $(OUT) $(FILMS)

gpu-carry: $(READY) ## collect wheels and films for a GPU machine without a network: LABELS=FILE IMAGES=FOLDER SIZE=512
	$(BIN)/python -m benchmarks.gpu.carry $(if $(LABELS),--labels $(LABELS)) $(FILMS) $(if $(SIZE),--size $(SIZE))

clean: ## remove the environment, the demo and the caches
	rm -rf $(VENV) runs/demo build benchmarks/.environments benchmarks/.work *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
