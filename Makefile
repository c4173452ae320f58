# The first of these that is here; PYTHON=... names another.
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13,$(if $(shell command -v python$(v) 2>/dev/null),python$(v))) python3)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ZENML_ANALYTICS_OPT_IN := false
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1

.PHONY: install demo run repro retrain stack services services-down bench rollback serve test test-services test-all lint format clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  echo "headstart needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)."; \
	  echo "Install one (apt install python3.12-venv, brew install python@3.12, or uv python install 3.12)"; \
	  echo "and name it: make install PYTHON=python3.12"; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module: on Debian and Ubuntu, apt install $(notdir $(PYTHON))-venv"; exit 1; } >&2
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	[ -d .zen ] || $(BIN)/zenml init
	$(BIN)/zenml analytics opt-out
	touch $@

demo: install
	$(if $(DATA),,$(BIN)/headstart demo)

run: install demo  ## the pipeline; DATA=folder takes your own images, PARAMS=file other parameters
	$(BIN)/headstart run $(if $(DATA),"$(DATA)") $(if $(PARAMS),--params "$(PARAMS)") $(if $(CONFIG),--config "$(CONFIG)")

stack: install  ## choose where the pipeline runs; NAME=a file in infra/stacks
	$(BIN)/headstart stack "$(NAME)"

repro: install demo  ## the same phases, run by DVC
	$(BIN)/dvc repro

retrain: install  ## checks for new data and drift, and trains where there is a reason
	$(BIN)/headstart retrain

services: .venv/.services  ## PostgreSQL, S3, MLflow and ZenML on this machine, until services-down
	PYTHON=$(PYTHON) infra/local-services.sh up

services-down:
	infra/local-services.sh down

.venv/.services: install
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,services]'
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m infra.dependency_audit

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: install lint
	$(BIN)/pytest -n 2 --dist loadfile

test-services: .venv/.services
	$(BIN)/pytest -m 'services and not slow'

test-all: .venv/.services lint  ## the slow proofs too; what the nightly workflow runs
	$(BIN)/pytest -n 2 --dist loadfile -m 'not services'
	$(BIN)/pytest -m services

bench: install  ## measures what the README claims; prints tables, writes artifacts/bench
	$(BIN)/python -m tests.bench.speed photographs
	$(BIN)/python -m tests.bench.speed digits
	$(BIN)/python -m tests.bench.audit_detectors
	$(BIN)/python -m tests.bench.promotion_decisions
	$(BIN)/python -m tests.bench.exports
	$(BIN)/python -m tests.bench.intervals
	$(BIN)/python -m tests.bench.choice

rollback: install  ## make the previous champion the champion again; MODEL=name WHY="reason", FORCE=1 if it was rolled back itself
	$(BIN)/headstart rollback "$(MODEL)" --why "$(WHY)" $(if $(FORCE),--force)

serve: install  ## serve the champion on this machine, with a page to try it; MODEL=name
	$(BIN)/headstart serve "$(MODEL)"

clean:  ## removes what can be made again; the registry and the reports stay
	rm -rf .headstart artifacts .pytest_cache .mypy_cache .ruff_cache
