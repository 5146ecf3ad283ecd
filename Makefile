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
.PHONY: help setup protos lint format test test-slow rolling failures soak chaos matrix release-baseline contract contract-all schemathesis docs bench demo clean lock \
	images deploy-check compose-test

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

# The tests of a file stay together, in their order: they share what it sets up. A worker that dies ends the run.
WORKERS ?= 4

test: setup  ## every test: unit, vectors, simulation, fuzz, contract, real processes
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test-slow: setup  ## the tests that take long: leases, silent and slow links, 1,000 dials from both ends
	$(BIN)/python -m pytest -m slow

rolling: setup  ## every service restarted one by one under load, and an upgrade with a new schema
	$(BIN)/python -m pytest -m slow tests/system/test_rolling.py

failures: setup  ## every failure profile on real processes, each sentence of what it expects
	$(BIN)/python -m pytest -n 3 -m slow tests/system/test_failure_profiles.py

SECONDS ?= 3600

soak: setup  ## loops, cuts and restarts for SECONDS=3600; then nothing may have grown
	PYTHONPATH=tests $(BIN)/python -m soak.churn $(SECONDS)

SEEDS ?= 2000
FIRST ?= 0

chaos: setup  ## the simulated world with SEEDS=2000 rows of mishaps from FIRST=0: bytes arrive once and in order, or the loop says why
	PYTHONPATH=tests $(BIN)/python -m sim.many $(SEEDS) $(FIRST)

matrix: setup  ## the services of the last release (deploy/release) beside those of this source, each in turn
	$(BIN)/python -m pytest -m 'slow or not slow' tests/contract/releases

release-baseline: setup  ## rebuild protos/baseline.binpb from the protos of the release that deploy/release names
	@folder=$$(mktemp -d) && git archive $$(cat deploy/release) protos | tar -x -C $$folder && \
		cd $$folder/protos && $(CURDIR)/$(BIN)/buf build -o $(CURDIR)/protos/baseline.binpb; rm -rf $$folder

contract: setup  ## the discovery's contract cases against TARGET=host:port (and HTTP=host:port)
	PYTHONPATH=tests $(BIN)/python -m contract.discovery.runner $(TARGET) $(if $(HTTP),--http $(HTTP))

contract-all: setup  ## the cases of every RPC against DISCOVERY=, SETUP_NODE=, CONTROL= (host:port), ADMIN= (socket)
	PYTHONPATH=tests $(BIN)/python -m contract.everything $(if $(DISCOVERY),--discovery $(DISCOVERY)) $(if $(CONTROL),--control $(CONTROL)) \
		$(if $(SETUP_NODE),--setup-node $(SETUP_NODE)) $(if $(ADMIN),--admin $(ADMIN)) $(if $(KEY),--setup-node-key $(KEY))

SCHEMATHESIS_LOCK := tests/contract/discovery/schemathesis.lock

.venv-schemathesis/.stamp: $(SCHEMATHESIS_LOCK) | $(UV)
	$(PY) -m venv .venv-schemathesis
	VIRTUAL_ENV=.venv-schemathesis $(UV) pip install -q --require-hashes --no-deps -r $(SCHEMATHESIS_LOCK)
	@touch $@

schemathesis: setup .venv-schemathesis/.stamp  ## property-based testing of the discovery's HTTP API against its schema (EXAMPLES=50 of each operation)
	PYTHONPATH=tests $(BIN)/python -m contract.discovery.against_schema $(if $(EXAMPLES),--max-examples=$(EXAMPLES))

.venv-docs/.stamp: docs/api.lock | $(UV)
	$(PY) -m venv .venv-docs
	VIRTUAL_ENV=.venv-docs $(UV) pip install -q --require-hashes --no-deps -r docs/api.lock
	@touch $@

docs: .venv-docs/.stamp  ## the API reference of the SDK, in build/api
	PYTHONPATH=libs/skywire_app/src:libs/skywire_common/src .venv-docs/bin/python docs/reference.py build/api

bench: setup  ## measure beside yardsticks in the same run (ARGS=--quick: a short one); writes bench/out/*.json
	$(BIN)/python -m bench $(ARGS)

demo: setup  ## 256 MiB through four nodes, one killed half-way; pings, a setup node killed; a standby route takes over
	$(BIN)/skywire demo

# docker or podman; their own settings say where images come from. BUILD_ARGS="--build-arg BASE_IMAGE=…" changes that.
ENGINE ?= $(shell command -v docker >/dev/null && echo docker || echo podman)
IMAGES := discovery setup-node node apps
IMAGES_PREFIX ?=
VERSION ?= latest
REVISION ?= $(shell git rev-parse --short HEAD 2>/dev/null)
# Without it podman leaves the health checks out.
FORMAT := $(if $(filter podman buildah,$(ENGINE)),--format docker)

images:  ## build the images with docker or podman (ENGINE=podman, IMAGES_PREFIX=registry/, VERSION=, BUILD_ARGS=)
	$(foreach target,$(IMAGES),$(ENGINE) build $(FORMAT) -f deploy/Dockerfile --target $(target) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$(REVISION) $(BUILD_ARGS) -t $(IMAGES_PREFIX)skywire-$(target):$(VERSION) . &&) true

deploy-check: setup .venv-checkers/.stamp  ## compose, Dockerfile, manifests, dashboards and alerts, with the tools that are here
	PATH="$(CURDIR)/.venv-checkers/bin:$$PATH" $(BIN)/python deploy/check.py

.venv-checkers/.stamp: deploy/locks/checkers.lock | $(UV)
	$(PY) -m venv .venv-checkers
	VIRTUAL_ENV=.venv-checkers $(UV) pip install -q --require-hashes --no-deps -r deploy/locks/checkers.lock
	@touch $@

# It finds docker-compose among the checkers where the engine brings none. ARGS=--older-engine: Docker before 26, podman 4.
compose-test: setup .venv-checkers/.stamp  ## bring the testnet of compose.yaml up, run the contracts and a reroute against it, take it down
	PATH="$$PATH:$(CURDIR)/.venv-checkers/bin" PYTHONPATH=tests $(BIN)/python -m deploy.compose_test $(ARGS)

# Locks name no address: `uv` finds packages where the machine's own settings say.
EXPORT := $(UV) export -q --no-emit-workspace --no-emit-index-url --no-header

lock: $(UV)  ## resolve again after a change of a pyproject
	$(UV) lock -q
	$(EXPORT) --all-packages --all-groups -o requirements.lock
	$(EXPORT) --only-group build -o deploy/locks/build.lock
	$(EXPORT) --no-dev --package skywire-transport-discovery --package skywire-cli -o deploy/locks/discovery.lock
	$(EXPORT) --no-dev --package skywire-setup-node --package skywire-cli -o deploy/locks/setup-node.lock
	$(EXPORT) --no-dev --package skywire-node --package skywire-cli -o deploy/locks/node.lock
	$(EXPORT) --no-dev --package skywire-node --package skywire-cli --package skywire-apps -o deploy/locks/apps.lock
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		deploy/checkers.in -o deploy/locks/checkers.lock

clean:  ## remove .venv, generated code and caches
	rm -rf $(VENV) .venv-schemathesis .venv-docs build .venv-checkers libs/skywire_common/src/skywire .mypy_cache .ruff_cache .hypothesis bench/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
