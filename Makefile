# Everything a newcomer needs. `make` alone lists the targets.

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
UV     := 0.13.9
HELM   := v3.22.0
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench chaos lock clean fuzz deploy-check deploy-tools deploy-files

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.done  ## make .venv with the pinned packages and the `driftline` command

$(VENV)/.done: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet 'uv==$(UV)'
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

demo: setup  ## real MovieLens events through a real Kafka; ARGS="--exit --events 5000 --report r.json"
	$(BIN)/driftline demo $(ARGS)

test: setup lint  ## lint, unit tests, and tests on a real broker
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile $(ARGS)

fuzz: setup  ## a hundred thousand bad events through a worker on a real broker (`make test` sends a few thousand)
	FUZZ_EVENTS=100000 $(BIN)/pytest -s tests/streams/test_malformed.py $(ARGS)

lint: setup  ## style, types, and which package may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## put the code into its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## driftline beside the bare transaction loop and a Faust table, in one run
	$(BIN)/python -m bench.throughput $(ARGS)

chaos: setup  ## kill everything for minutes, then account for every event; ARGS="--kills 25 --seconds 400 --seed 1"
	$(BIN)/driftline chaos $(ARGS)

lock: setup  ## pin the packages again: versions and hashes, no addresses
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --generate-hashes --universal --python-version 3.11 \
		--extra dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --generate-hashes --universal --python-version 3.11 \
		--constraints requirements.lock pyproject.toml -o deploy/requirements.lock

TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/driftline/tools

deploy-check: setup deploy-tools  ## check everything in deploy/ with helm and promtool; DEPLOY_CHECK=1: skip nothing
	$(BIN)/pytest tests/deploy $(ARGS)

# What cannot be got is said, and its checks say that they are skipped: a registry that is away is no fault of deploy/.
deploy-tools:
	@command -v helm > /dev/null || test -x $(TOOLS)/helm || { echo "building helm (two minutes, once)"; \
		GOBIN=$(TOOLS) timeout 1200 go install helm.sh/helm/v3/cmd/helm@$(HELM) \
		|| echo "helm could not be built (it takes Go and its module proxy): its checks will be skipped"; }
	@command -v promtool > /dev/null || { echo "installing promtool (Debian's prometheus)"; \
		{ apt-get update -qq && apt-get install -qq --yes --no-install-recommends prometheus > /dev/null; } \
		|| echo "promtool could not be installed (it takes root and Debian's packages): its checks will be skipped"; }

deploy-files: setup  ## write the files of deploy/ that follow from the code
	$(BIN)/python -m ops.deployment deploy

clean:  ## remove what was built here (not the data of `driftline kafka`: that is `driftline kafka purge`)
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
