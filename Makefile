# Every target does its own set-up: Python 3.11 or newer and make are all that is needed.

VENV := .venv
PYTHON_IN_VENV := $(VENV)/bin/python
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.9

# Extra arguments, such as: make test PYTEST_ARGS="-k windows"
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
ON_ONE_CORE ?= $(if $(shell command -v taskset),taskset --cpu-list 0)
CHAOS_ARGS ?= --rounds 100 --seed 1
# A folder with the Handbook's transactions and features, as Parquet.
HANDBOOK ?= ../shared/data/handbook
# make peers PEERS_ARGS="--flink-python PATH" asks Flink too.
PEERS_ARGS ?=
# make streaming STREAMING_ARGS="--only drain" measures a part again.
STREAMING_ARGS ?=
# make lock UPGRADE=1 takes the newest versions; otherwise existing pins stay where they can.
UPGRADE ?=

PIP_INSTALL := $(PYTHON_IN_VENV) -m pip install --disable-pip-version-check $(if $(CI),--quiet)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint format bench chaos handbook handbook-models pattern-change peers \
  curves streaming lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

$(STAMP): pyproject.toml requirements.lock .ci/venv
	@echo "Setting up $(VENV): once, and again when pyproject.toml or requirements.lock changes."
	@sh .ci/venv $(VENV)
	$(PIP_INSTALL) --require-hashes --requirement requirements.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(STAMP) ## the virtual environment only

demo: $(STAMP) ## simulated bank traffic through the embedded engine, with a live view
	$(VENV)/bin/millrace demo $(DEMO_ARGS)

test: $(STAMP) ## the whole test suite; what was not run is listed at its end
	$(PYTHON_IN_VENV) -m pytest --numprocesses 2 --dist loadgroup $(PYTEST_ARGS)

lint: $(STAMP) ## ruff, formatting, types, and who may import whom
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

format: $(STAMP) ## rewrite the code in the house format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(STAMP) ## the benchmarks, on one core
	$(ON_ONE_CORE) $(PYTHON_IN_VENV) -m pytest bench --benchmark-only --benchmark-json=bench/results/latest.json \
	  $(BENCH_ARGS)
	$(PYTHON_IN_VENV) -m bench.table bench/results/latest.json > docs/benchmarks.md

chaos: $(STAMP) ## faults on a real Kafka and Redis, everything checked after each of them
	$(PYTHON_IN_VENV) -m bench.chaos $(CHAOS_ARGS) --out bench/results/chaos.json
	$(PYTHON_IN_VENV) -m bench.chaos --mutants --out bench/results/chaos_mutants.json
	$(PYTHON_IN_VENV) -m bench.chaos.page bench/results/chaos.json \
	  bench/results/chaos_mutants.json > docs/chaos.md

handbook: $(STAMP) ## the Fraud Detection Handbook's features against ours, bit by bit
	$(PYTHON_IN_VENV) -m bench.handbook_page $(HANDBOOK) > docs/handbook_equality.md

peers: $(STAMP) ## the same question about the same events, asked of Millrace and of its peers
	$(PIP_INSTALL) --no-build-isolation --editable ".[peers]"
	$(PYTHON_IN_VENV) -m bench.peers $(PEERS_ARGS) --out bench/results/peers.json
	$(PYTHON_IN_VENV) -m bench.peers.page bench/results/peers.json > docs/peers.md

handbook-models: $(STAMP) ## fraud models on the Handbook's data, ours online, others in batch
	$(PIP_INSTALL) --no-build-isolation --editable ".[baselines]"
	$(PYTHON_IN_VENV) -m bench.handbook_models $(HANDBOOK) --out bench/results/handbook_models.json
	$(PYTHON_IN_VENV) -m bench.handbook_models_page bench/results/handbook_models.json docs

pattern-change: $(STAMP) ## frauds that change: days until models recover, online and in batch
	$(PIP_INSTALL) --no-build-isolation --editable ".[baselines]"
	$(PYTHON_IN_VENV) -m bench.pattern_change --out bench/results/pattern_change.json
	$(PYTHON_IN_VENV) -m bench.pattern_change_page bench/results/pattern_change.json docs

curves: $(STAMP) ## what an event costs by the number of entities and the length of the windows, on one core
	$(ON_ONE_CORE) $(PYTHON_IN_VENV) -m bench.curves --out bench/results/curves.json
	$(PYTHON_IN_VENV) -m bench.curves_page bench/results/curves.json docs

streaming: $(STAMP) ## the worker on a real Kafka and Redis: throughput, latency, recovery (10 to 25 min)
	$(PYTHON_IN_VENV) -m bench.streaming $(STREAMING_ARGS) --out bench/results/streaming.json
	$(PYTHON_IN_VENV) -m bench.streaming.page bench/results/streaming.json > docs/streaming.md

lock: $(STAMP) ## pin every dependency again, with hashes
	$(PIP_INSTALL) uv==$(UV_VERSION)
	$(VENV)/bin/uv pip compile pyproject.toml --extra dev --extra bench --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
	  --no-emit-find-links --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
	  --quiet --output-file requirements.lock

clean: ## remove the virtual environment, caches and build output
	rm -rf $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache \
	  .benchmarks build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
