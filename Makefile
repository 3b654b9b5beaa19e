# A few short commands. Each sets up what it needs: a .venv from requirements.lock, checked by hash.
#   make demo                    the loop on the built-in retailer
#   make demo DATA=folder        the loop on your data; FEED=file names its feed file, ASSUME=file its assumed inputs

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DATA ?=
FEED ?=
ASSUME ?=
NAME ?= loop
TIER ?= nightly
SHARD ?= 1/1
MINUTES ?=
HISTORIES ?= 10000
SEED ?= 1
SOURCE := $(if $(DATA),--data $(DATA)) $(if $(FEED),--feed $(FEED)) $(if $(ASSUME),--assume $(ASSUME))

.DEFAULT_GOAL := help
.PHONY: help setup demo test check dev backtest faults bench poison features-oracle cluster studies doors lock clean

help: ## print this help
	@echo "replenish: events in, explained replenishment orders out"
	@echo
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1|/' | column -t -s '|'

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	@echo "installing what requirements.lock names (about 1.2 GB, a few minutes)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

setup: $(READY) ## make the .venv from the lock file

demo: $(READY) ## run the whole loop on the built-in retailer, or on DATA=<folder or file>
	$(BIN)/replenish demo $(SOURCE)

test: $(READY) ## run all tests
	$(BIN)/python -m pytest -n 2

check: $(READY) ## ruff, mypy, architecture tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy platform assets resources
	$(BIN)/python -m pytest -q tests/architecture

dev: $(READY) ## Dagster UI and daemon on the demo's root (or on DATA's)
	$(BIN)/replenish dev $(SOURCE)

backtest: $(READY) ## the full backtest profile, through the same code as the demo's
	$(BIN)/replenish forecast backtest --profile full

faults: $(READY) ## kills, power cuts, full disks: TIER=nightly (or release), SHARD=1/4 MINUTES=30 for a piece of it
	$(BIN)/python -m tests.faults.run_tier --tier $(TIER) --shard $(SHARD) $(if $(MINUTES),--minutes $(MINUTES))

bench: $(READY) ## a benchmark by name: make bench NAME=loop
	$(BIN)/replenish bench $(NAME)

poison: $(READY) ## 100,000 malformed inputs over all doors (about eight minutes)
	$(BIN)/python -m tests.poison.run --inputs 100000 --seed $(SEED) --record

features-oracle: $(READY) ## features against the oracle over HISTORIES=10000 random histories (a few minutes)
	$(BIN)/python -m tests.oracle.run --histories $(HISTORIES) --processes 2

cluster: $(READY) ## features on Spark against the embedded engine (Java 17, 500 MB of jars, about ten minutes)
	$(PYTHON) -m venv .venv-spark
	.venv-spark/bin/python -m pip install --quiet --disable-pip-version-check pyspark==4.2.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[cluster]'
	REPLENISH_SPARK_HOME=$$(.venv-spark/bin/python -c 'import pyspark; print(*pyspark.__path__)') \
	  $(BIN)/python -m pytest -q -s tests/cluster

studies: $(READY) ## the long studies: drift over 40 seeds, quantile coverage (about an hour)
	$(BIN)/replenish bench drift
	$(BIN)/replenish bench coverage

doors: $(READY) ## the same 100,000 facts through file, HTTP, CDC and Kafka doors: equal silver (a few minutes)
	REPLENISH_DOOR_FACTS=100000 $(BIN)/python -m pytest -q -s tests/scenario/test_four_doors.py

lock: $(READY) ## remake requirements.lock from pyproject.toml (needs uv)
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements.lock

clean: ## drop the demo's data; the .venv stays
	rm -rf var dbt/target dbt/logs
