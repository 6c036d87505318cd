# `make demo` and `make test` make the environment themselves; nothing outside .venv, models and out is written.

SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

find_python = for name in python3.11 python3.12 python3.13 python3; do \
	"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& command -v "$$name" && break; done
PYTHON ?= $(shell $(find_python))
BIN := .venv/bin
PHOTO := assets/eileen_collins.jpg
MODELS := models
OUT := out
# Processes that run tests, each with servers of its own.
WORKERS := 2

.PHONY: help demo test test-deploy lint configs dashboard chart protocol tour clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: .venv/installed ## export small networks, serve them, send them a photograph, leave pictures in out/
	for task in depth normal seg pose features; do
	$(BIN)/sapiens export $$task --size demo --repository $(MODELS)
	done
	$(BIN)/sapiens export detect --repository $(MODELS)
	$(BIN)/python examples/demo.py $(PHOTO) --repository $(MODELS) --output $(OUT)

test: .venv/installed ## run all tests
	$(BIN)/python -m pytest tests/bench  # alone: it looks at what this machine has in shared memory
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/bench

test-deploy: .venv/installed ## build the image, run it, and test what surrounds a server; as root it installs what it needs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[opencv,video,demo,parquet,server,export,dev,deploy]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
		--requirement scripts/chart-requirements.txt
	$(BIN)/python -m scripts.dependencies
	$(BIN)/python -m pytest --capture=sys tests/deploy

lint: .venv/installed ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright

configs: .venv/installed ## write the committed models from the recipes
	$(BIN)/python -c 'from pathlib import Path; from sapiens_export.repository.released import write_released_configs as w; w(Path("model_repository"))'

dashboard: .venv/installed ## write docker/observability/grafana/dashboards/sapiens.json (extra: deploy)
	$(BIN)/python -m scripts.write_dashboard

chart: .venv/installed ## write what the Helm chart has from elsewhere, and the plain manifest (needs what test-deploy installs)
	$(BIN)/python -m scripts.write_chart

protocol: .venv/installed ## write the tables of docs/protocol.md from the contract
	$(BIN)/python -m scripts.write_protocol

tour: .venv/installed ## run docs/tour.ipynb and keep what it shows (needs a server with the demo networks, see there)
	$(BIN)/python -m scripts.write_tour

clean: ## remove everything that the other commands made
	rm -rf .venv models out

.venv/installed: pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "make: Python 3.11, 3.12 or 3.13 is needed, none is on PATH; or say make PYTHON=/path/to/python" >&2; exit 1; fi
	$(PYTHON) scripts/preflight.py
	@echo "making the environment in .venv: about 2 GB of packages with torch for CPUs, a minute or two where they are cached"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[opencv,video,parquet,server,export,dev]'
	touch $@
