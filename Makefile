# Everything starts from Python 3.11 or later, make and the package registry. `make` alone lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# The newest Python that the packages support, for test-newest.
NEWEST_PYTHON ?= $(shell command -v python3.13 || command -v python3.12 || command -v python3)
WORKERS ?= 2
RUNS ?= runs
SEEDS ?= 0 1 2
# Named exactly, so that a local build for CPUs is preferred to the newest release with its CUDA packages.
TORCH ?= torch==2.13.0
# A script that lays out real data: `python prepare.py DEST` writes DEST/cifar10 and DEST/tfds.
DATA_SOURCE ?= ../shared/data/prepare.py
export PIP_DISABLE_PIP_VERSION_CHECK = 1

BIN := .venv/bin
TEST_DATA := .test-data
# A file goes to one worker, so that what its tests share is made once.
SPREAD := -n $(WORKERS) --dist loadfile
PYTEST := $(BIN)/python -m pytest $(SPREAD)
# What shows that another backend computes the same: Keras's own harness, recorded logits, weights of other libraries.
BACKEND_TESTS := tests/test_keras_harness.py tests/models/test_zoo.py tests/weights/test_parity.py
BACKEND_NAMES := test_a_layer or every_backend or test_a_file_of
# Before a release: everything that runs without TensorFlow.
CORE_TESTS := tests/blocks tests/models tests/preprocessing tests/explain/test_gradients.py tests/weights/test_loading.py \
  tests/weights/test_parity.py tests/weights/test_adaptation.py tests/test_keras_harness.py
# What compiles every operation by itself takes minutes for these; other tests of the same kind stay.
LEFT_OUT := --ignore tests/models/test_drawing.py --ignore tests/models/test_info.py \
  -k 'not (test_a_training_that_recomputes and (v2 or pool or drop_path_rate or input_shape))'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart sweep test test-slow test-all test-all-jax test-all-torch test-backends test-jax test-torch test-oldest test-newest test-data docs mutants lint types clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST) | awk -F': ' '{ printf "make %-14s %s\n", $$1, $$2 }'

# A stamp is written when its environment is complete, and removed before anything in it changes. Where it is missing,
# the environment is made again from nothing, so that an interrupted installation never passes for a finished one.
define environment
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed, '$(PYTHON)' is not. Install one, or run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -e $(1)/complete || { rm -rf $(1) && "$(PYTHON)" -m venv $(1); }
	@rm -f $(1)/complete $(2)
endef

.venv/complete: setup.py pyproject.toml
	$(call environment,.venv,.venv/complete-dev)
	@echo "installing into .venv (about a minute)"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/complete-dev: .venv/complete
	@rm -f .venv/complete $@
	@echo "installing the tools of the tests into .venv"
	@$(BIN)/python -m pip install --quiet --editable '.[dev,all,docs,jax]'
	@touch .venv/complete $@

# The environments of the other backends hold no TensorFlow: what the core needs, then this package without the rest.
.venv-%/complete: setup.py pyproject.toml .ci/core_requirements.py
	$(call environment,.venv-$*)
	@echo "installing into .venv-$*"
	@.venv-$*/bin/python -m pip install --quiet --no-deps --editable .
	@.venv-$*/bin/python .ci/core_requirements.py $* dev > .venv-$*/requirements.txt
	@if [ "$*" = torch ]; then .venv-torch/bin/python -m pip install --quiet --no-warn-conflicts $(TORCH); fi
	@.venv-$*/bin/python -m pip install --quiet --no-warn-conflicts --requirement .venv-$*/requirements.txt
	@touch $@
.PRECIOUS: .venv-%/complete

# TensorFlow 2.19 holds protobuf below 6; from 1.17.2 on tensorflow-metadata needs 6, and does not say so.
OLDEST_EXTRA := 'tensorflow-metadata<1.17.2'
.venv-oldest/complete: setup.py .ci/oldest_requirements.py
	$(call environment,.venv-oldest)
	@"$(PYTHON)" .ci/oldest_requirements.py > .venv-oldest/requirements.txt
	@.venv-oldest/bin/python -m pip install --quiet --requirement .venv-oldest/requirements.txt pytest pytest-xdist build 'setuptools>=84' $(OLDEST_EXTRA)
	@.venv-oldest/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

.venv-trackio/complete: .venv/complete-dev  # Trackio, which holds Pillow below 13, before the packages of the tests
	$(call environment,.venv-trackio)
	@.venv-trackio/bin/python -m pip install --quiet 'trackio>=0.43,<1'
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-trackio/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tests.pth"
	@touch $@

.venv-mlflow/complete:  # MLflow's server, whose requirements are not those of the tests
	$(call environment,.venv-mlflow)
	@.venv-mlflow/bin/python -m pip install --quiet 'mlflow>=3.17,<4'
	@touch $@

.venv-newest/complete: PYTHON := $(NEWEST_PYTHON)
.venv-newest/complete: setup.py
	$(call environment,.venv-newest)
	@.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	@touch $@

quickstart: .venv/complete  ## install, train ResNet-18 on the digits, evaluate, predict one image
	@sh examples/quickstart.sh $(BIN) $(RUNS)/quickstart

sweep: .venv/complete  ## the quickstart's training over several seeds (SEEDS="0 1 2"), with each test accuracy
	@sh examples/seeds.sh $(BIN) $(RUNS)/seeds $(SEEDS)

test: .venv/complete-dev  ## the default tier, offline, 6 minutes on two cores
	$(PYTEST)

test-slow: .venv/complete-dev  ## the slow tier
	$(PYTEST) -m "slow and not exhaustive and not data"

test-all: .venv/complete-dev .venv-mlflow/complete .venv-trackio/complete  ## the exhaustive tier and whole folders on JAX and PyTorch, before a release
	$(PYTEST) -m "exhaustive and not data"
	$(MAKE) test-all-jax test-all-torch

test-backends: test-jax test-torch  ## layers, networks and weights on JAX and on PyTorch, without TensorFlow

test-jax test-torch: test-%: .venv-%/complete
	KERAS_BACKEND=$* .venv-$*/bin/python -m pytest $(SPREAD) $(BACKEND_TESTS) -k "$(BACKEND_NAMES)"

test-all-jax test-all-torch: test-all-%: .venv-%/complete
	KERAS_BACKEND=$* .venv-$*/bin/python -m pytest $(SPREAD) $(CORE_TESTS) $(LEFT_OUT)

# Warnings of other versions are those versions' own; errors and numbers are ours.
test-oldest test-newest: test-%: .venv-%/complete  ## the default tier on the oldest and the newest versions allowed
	.venv-$*/bin/python -m pytest $(SPREAD) -W default -p no:cacheprovider

test-data: .venv/complete-dev  ## the tests on the real CIFAR-10, where DATA_SOURCE lays it out
	@if [ -n "$$KERAS_RESNET_TEST_DATA" ]; then \
	  echo "real data: $$KERAS_RESNET_TEST_DATA" && $(PYTEST) -m data; \
	elif [ -f "$(DATA_SOURCE)" ]; then \
	  $(BIN)/python "$(DATA_SOURCE)" $(TEST_DATA) && \
	  KERAS_RESNET_TEST_DATA="$(CURDIR)/$(TEST_DATA)" $(PYTEST) -m data; \
	else \
	  echo "No real data: DATA_SOURCE=$(DATA_SOURCE) does not exist. The tests marked 'data' were not run."; \
	fi

docs: .venv/complete-dev  ## the site, in build/site
	$(BIN)/python -m sphinx -q -n -W -c docs . build/site
	@echo build/site/index.html

mutants: .venv/complete-dev  ## deliberate faults in the package, and whether the tests find them
	$(BIN)/python tests/mutants.py $(NAMES)

lint: .venv/complete-dev  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/complete-dev  ## mypy
	$(BIN)/mypy

clean:  ## remove what make made, and keep the runs
	rm -rf .venv .venv-jax .venv-torch .venv-oldest .venv-newest $(TEST_DATA) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
