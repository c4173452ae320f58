PYTHON ?= python3.11
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
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	[ -d .zen ] || $(BIN)/zenml init
	$(BIN)/zenml analytics opt-out
	touch $@

demo: install
	$(if $(DATA),,$(BIN)/python -m infra.demo data/demo)

run: export HEADSTART_DATA := $(DATA)
run: export HEADSTART_PARAMS := $(PARAMS)
run: install demo  ## the pipeline; DATA=folder takes your own images, PARAMS=file other parameters
	$(BIN)/zenml pipeline run finetune_pipeline $(if $(CONFIG),--config $(CONFIG))

stack: install  ## choose where the pipeline runs; NAME=a file in infra/stacks
	$(BIN)/python -m infra.stack "$(NAME)"

repro: install demo  ## the same phases, run by DVC
	$(BIN)/dvc repro

retrain: install  ## checks for new data and drift, and trains where there is a reason
	$(BIN)/zenml pipeline run retraining_pipeline

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

rollback: install  ## make the previous champion the champion again; MODEL=name WHY="reason", FORCE=1 if it was rolled back itself
	$(BIN)/python -m infra.rollback "$(MODEL)" --why "$(WHY)" $(if $(FORCE),--force)

serve: install  ## serve the champion on this machine, with a page to try it; MODEL=name
	$(BIN)/python -m infra.serve "$(MODEL)"

clean:  ## removes what can be made again; the registry and the reports stay
	rm -rf .headstart artifacts .pytest_cache .mypy_cache .ruff_cache
