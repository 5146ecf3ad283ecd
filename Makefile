# `make` lists what there is. Everything runs from .venv; nothing is installed outside this folder.
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
MEMBERS := libs/skywire_common libs/skywire_app services/node services/setup_node services/transport_discovery apps cli
PROTOS := $(shell find protos -name '*.proto' 2>/dev/null)
# uv does not read the system's certificates unless told to.
export UV_SYSTEM_CERTS ?= 1
export GRPC_VERBOSITY ?= NONE
# Set on some machines; without compiled files every process compiles everything again at each start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup protos lint format test test-slow soak contract schemathesis bench demo clean lock

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp  ## make .venv, install the locked dependencies and this project (once)

$(UV):
	@$(PY) -c 'import ensurepip' 2>/dev/null || { echo "This python3 has no venv module: on Debian and Ubuntu, apt-get install python3-venv"; exit 1; }
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check uv==0.13.9

$(VENV)/.stamp: requirements.lock $(PROTOS) libs/skywire_common/setup.py $(addsuffix /pyproject.toml,$(MEMBERS)) | $(UV)
	VIRTUAL_ENV=$(VENV) $(UV) pip install -q --compile-bytecode --require-hashes --no-deps -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(UV) pip install -q --no-deps --no-build-isolation $(foreach m,$(MEMBERS),-e ./$(m))
	@$(BIN)/python -m compileall -q $(addsuffix /src,$(MEMBERS))
	@touch $@

protos: setup  ## generate the gRPC code again after a change in protos/
	cd libs/skywire_common && ../../$(BIN)/python -c 'import setup; setup.generate()'

format: setup  ## format code and protos in place
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix -q .
	$(BIN)/buf format -w protos

lint: setup  ## ruff, mypy --strict, import-linter, buf, the lock has no addresses
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy libs services apps cli
	$(BIN)/lint-imports --no-cache
	cd protos && ../$(BIN)/buf lint
	cd protos && ../$(BIN)/buf format -d --exit-code
	cd protos && ../$(BIN)/buf breaking --against baseline.binpb
	@if grep -n '://' requirements.lock; then echo 'requirements.lock names an address'; exit 1; fi

test: setup  ## every test: unit, vectors, simulation, fuzz, contract, real processes
	$(BIN)/python -m pytest

test-slow: setup  ## the tests that take long: leases, silent and slow links, 1,000 dials from both ends
	$(BIN)/python -m pytest -m slow

SECONDS ?= 3600

soak: setup  ## loops, cuts and restarts for SECONDS=3600; then nothing may have grown
	PYTHONPATH=tests $(BIN)/python -m soak.churn $(SECONDS)

contract: setup  ## the discovery's contract cases against TARGET=host:port (and HTTP=host:port)
	PYTHONPATH=tests $(BIN)/python -m contract.discovery.runner $(TARGET) $(if $(HTTP),--http $(HTTP))

SCHEMATHESIS_LOCK := tests/contract/discovery/schemathesis.lock

.venv-schemathesis/.stamp: $(SCHEMATHESIS_LOCK) | $(UV)
	$(PY) -m venv .venv-schemathesis
	VIRTUAL_ENV=.venv-schemathesis $(UV) pip install -q --require-hashes --no-deps -r $(SCHEMATHESIS_LOCK)
	@touch $@

schemathesis: setup .venv-schemathesis/.stamp  ## property-based testing of the discovery's HTTP API against its schema
	PYTHONPATH=tests $(BIN)/python -m contract.discovery.against_schema $(if $(EXAMPLES),--max-examples=$(EXAMPLES))

bench: setup  ## measure beside yardsticks in the same run (ARGS=--quick: a short one); writes bench/out/*.json
	$(BIN)/python -m bench $(ARGS)

demo: setup  ## 256 MiB through four nodes, one of them killed half-way; then pings, and a setup node killed
	$(BIN)/skywire demo

lock: $(UV)  ## resolve again after a change of a pyproject
	$(UV) lock -q
	$(UV) export -q --all-packages --all-groups --no-emit-workspace --no-emit-index-url --no-header -o requirements.lock

clean:  ## remove .venv, generated code and caches
	rm -rf $(VENV) .venv-schemathesis libs/skywire_common/src/skywire .mypy_cache .ruff_cache .hypothesis bench/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
