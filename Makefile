# `make help` lists what there is to do.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CONTROL := .venv/bin/python
TRAINING := .venv-training/bin/python
SERVING := .venv-serving/bin/python
UV := .uv/bin/uv
COMPILE := $(UV) pip compile --quiet --generate-hashes --no-emit-index-url --no-header

.PHONY: help setup lock lint format test test-unit test-unit-processes test-unit-control test-unit-serving test-integration test-acceptance test-chaos test-gate demo replay-year bench-serving bench-ingest clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

setup: ## the three environments, from hashed pins; again in under 2 s
	@python3 requirements/install.py

demo: setup ## the story: four months of real flights land, retrain, serve, and one rollback
	@$(CONTROL) -m demo

replay-year: setup ## twelve months of real flights land one after another: every verdict, and AUC against a frozen model; some 15 minutes
	@$(CONTROL) -m demo.year

test: setup ## every test
	@$(MAKE) --no-print-directory test-unit test-integration test-acceptance

test-unit: ## tests of one room at a time, two runs of pytest side by side; no TFX, no servers
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-unit-processes test-unit-control test-unit-serving

PROCESSES := $(addprefix tests/unit/,airflow cli daemon setup worker)

test-unit-processes: # rooms whose tests start processes or import Airflow: half of the time
	$(CONTROL) -m pytest $(PROCESSES)

test-unit-control:
	$(CONTROL) -m pytest tests/unit $(addprefix --ignore ,tests/unit/serving $(PROCESSES))

test-unit-serving:
	$(SERVING) -m pytest tests/unit/serving

test-integration: ## tests with the real Airflow, MLflow, TFX and BentoML, one at a time
	$(TRAINING) -m pytest tests/integration/training
	$(TRAINING) -m pytest tests/integration/pipelines  # apart: it runs TensorFlow, and then nodes cannot be forked
	$(SERVING) -m pytest tests/integration/serving
	$(CONTROL) -m pytest tests/integration $(foreach room,training pipelines serving,--ignore tests/integration/$(room))

test-acceptance: ## the whole story on small spans, and what must survive
	$(CONTROL) -m pytest tests/acceptance

test-chaos: setup ## 200 landings while processes are killed at random, at most 10 minutes; CT_CHAOS_SEED repeats a run
	$(CONTROL) -m pytest tests/chaos -s

test-gate: setup ## the gate on 1,000 simulated pairs of models: false passes and power; under a minute
	@$(CONTROL) -m bench.gate

bench-serving: setup ## our serving and its peers side by side, and rollbacks under load; some 10 minutes after a first set-up
	@$(CONTROL) -m bench.serving

bench-ingest: setup ## our ExampleGen and TFX's CsvExampleGen on a million flights, and our memory at three sizes; some 6 minutes
	@$(CONTROL) -m bench.ingest

lint: setup ## ruff, mypy and the rooms' import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: ## let ruff format and fix
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lock: ## compile requirements/*.in to hashed pins
	@python3 requirements/install.py uv
	$(COMPILE) --python-version 3.11 requirements/control.in -o requirements/control.txt
	$(COMPILE) --python-version 3.10 --override requirements/training.overrides requirements/training.in -o requirements/training.txt
	$(COMPILE) --python-version 3.11 requirements/serving.in -o requirements/serving.txt
	$(COMPILE) --python-version 3.11 requirements/uv.in -o requirements/uv.txt
	for peer in bentoml mlserver mlflow; do \
	  $(COMPILE) --python-version 3.11 bench/requirements/$$peer.in -o bench/requirements/$$peer.txt; \
	done

clean: ## remove the environments, the demo's home and the benchmarks' files; your .ct stays
	rm -rf .venv .venv-training .venv-serving .uv .bench .ct-demo* demo-out
