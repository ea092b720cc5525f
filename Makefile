# Every command of the project. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CACHE ?= $(or $(POSTTRAIN_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/posttrain)
export POSTTRAIN_CACHE := $(CACHE)
export PYTHONPATH := $(CURDIR):$(CURDIR)/operator:$(CURDIR)/images/trainer:$(CURDIR)/images/server
ENVIRONMENTS := dev operator trainer server verifiers
PYTHON := $(CACHE)/env/dev/bin/python
UV := $(CACHE)/bootstrap/bin/uv
PYTEST := $(PYTHON) -m pytest

.PHONY: help setup environments demo demo-down bench bench-learning bench-rl bench-trainer cluster-up cluster-down test test-unit test-api test-e2e lint generate verify lock

help:  ## List these commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 16

setup: environments  ## Install everything that the demo and the tests need, once (into a cache outside the tree)
	@$(PYTHON) -m tests.cluster build
	$(PYTHON) -m examples.demo.base

environments: $(foreach name,$(ENVIRONMENTS),$(CACHE)/env/$(name)/.complete)

$(UV): requirements/bootstrap.txt
	@echo "==> uv"
	python3 -m venv --clear $(CACHE)/bootstrap || { apt-get update -q && apt-get install -y -q python3-venv; python3 -m venv --clear $(CACHE)/bootstrap; }
	$(CACHE)/bootstrap/bin/pip install -q --require-hashes --no-deps -r requirements/bootstrap.txt
	touch $@

# The packages are installed in two steps, so that the stamp is written only when bytecode is compiled too: pods
# mount an environment read-only, and without bytecode TRL takes 15 s to import instead of 5 s.
$(CACHE)/env/%/.complete: requirements/%.txt $(UV)
	@echo "==> Python environment $*"
	test -x $(CACHE)/env/$*/bin/python || $(UV) venv -q --clear --python python3 $(CACHE)/env/$*
	VIRTUAL_ENV=$(CACHE)/env/$* $(UV) pip sync --require-hashes --compile-bytecode --link-mode=hardlink requirements/$*.txt
	touch $@

demo: setup  ## Train two adapters on a local cluster, serve them and ask them (the main job; run it again at will)
	@$(PYTHON) -m examples.demo

demo-down: cluster-down  ## Remove everything that the demo started (the caches stay)

bench: setup  ## Measure what docs/benchmarks.md claims and print it
	@$(PYTHON) -m bench

bench-learning: setup  ## Train by every method and tuning, and print what each of them teaches (15 minutes)
	@$(PYTHON) -m bench.learning

bench-rl: setup  ## Learn from rewards by grpo, rloo and ppo, and print what each of them teaches (10 minutes)
	@$(PYTHON) -m bench.rl

bench-trainer: setup  ## Measure the trainer's speed against TRL's command line and print it (11 minutes)
	@$(PYTHON) -m bench.trainer

cluster-up: setup  ## Start the local cluster and say where its kubeconfig is
	@$(PYTHON) -m tests.cluster up

cluster-down:  ## Remove the local cluster with everything in it
	@test ! -x $(PYTHON) || $(PYTHON) -m tests.cluster down

test: setup  ## Run all tests
	@$(PYTEST) tests

test-unit: environments  ## Run the tests that need no cluster
	@$(PYTEST) tests/unit

test-api: setup  ## Run the operator's tests against a real kube-apiserver
	@$(PYTEST) tests/api_server

test-e2e: setup  ## Run the tests on a real cluster (or on the one that POSTTRAIN_TEST_CONTEXT names)
	@$(PYTEST) tests/e2e

lint: environments  ## Check style, types and imports
	@$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(CACHE)/env/dev/bin/lint-imports

generate: environments  ## Write the generated files: crds/, the chart's copy, docs/api/
	@$(PYTHON) -m posttrain_api.crd

verify: environments  ## Fail if a generated file is not current
	@$(PYTHON) -m posttrain_api.crd --check

lock: $(UV)  ## Choose the packages' versions anew (requirements/*.in -> *.txt)
	@for name in bootstrap trainer-gpu $(ENVIRONMENTS); do
	  $(UV) pip compile -q --no-header --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	    --generate-hashes --override requirements/overrides.txt requirements/$$name.in -o requirements/$$name.txt
	done
