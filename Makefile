# Everything bootstraps itself: `make demo` and `make test` need nothing but Python 3.11+ and a network to PyPI.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
NAME ?=
SCENARIO ?=
MINUTES ?= 30
SEED ?=

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "; print "Targets:"} /^[a-z-]+:.*## / {printf "  \033[36m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'Examples:'
	@echo '  make demo ARGS="--clusters 4 --keep"'
	@echo '  make test ARGS="tests/dns -k truncation"'

$(VENV)/run.done: requirements.txt tools/bootstrap.sh
	@tools/bootstrap.sh run

$(VENV)/dev.done: requirements-dev.txt requirements.txt tools/bootstrap.sh
	@tools/bootstrap.sh dev

.PHONY: envoy
envoy: ## Install the Envoy that tests and demo use (unless ISTHMUS_ENVOY or PATH has one)
	@tools/envoy.sh >/dev/null

.PHONY: fastpath
fastpath: $(VENV)/run.done ## Compile the fast path of DNS where there is a C compiler (once; it works without)
	@$(BIN)/python -m isthmus.dns.library

.PHONY: demo
demo: fastpath ## Three clusters on this machine; one of them dies under load (ARGS="…")
	@ISTHMUS_ENVOY="$$(tools/envoy.sh)" $(BIN)/python -m isthmus demo $(ARGS)

.PHONY: test
test: $(VENV)/dev.done fastpath ## Run the tests (ARGS="…" goes to pytest)
	@tools/data_plane.sh >/dev/null
	@ISTHMUS_ENVOY="$$(tools/envoy.sh)" $(BIN)/python -m pytest $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/dev.done fastpath ## Fuzz DNS for a minute (ARGS="--seconds 600"); needs CPython 3.11 or 3.12, x86-64
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --require-hashes --only-binary :all: \
	  --target $(VENV)/fuzz -r tools/fuzz/requirements.txt
	@PYTHONPATH=$(VENV)/fuzz $(BIN)/python tests/dns/dnsfuzz.py $(ARGS)

.PHONY: tools
tools: ## Build the Kubernetes, Helm and CoreDNS programs that some tests run (needs Go; once, 10-20 minutes)
	@tools/go_tools.sh

.PHONY: lint
lint: $(VENV)/dev.done ## ruff, mypy strict, import-linter, codespell, file sizes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell
	@$(BIN)/python tools/file_sizes.py

.PHONY: bench
bench: $(VENV)/dev.done fastpath ## Run a benchmark (NAME=…); without NAME: list them
	@if [ -z "$(NAME)" ]; then echo 'make bench NAME=…, one of:'; ls loadtests/bench | sed -n 's/\.py$$/  /p'; exit 2; fi
	@ISTHMUS_ENVOY="$$(tools/envoy.sh)" $(BIN)/python -P loadtests/bench/$(NAME).py $(ARGS)

.PHONY: load
load: $(VENV)/dev.done fastpath ## Play load and accidents on the demo's clusters (SCENARIO=…, all without; ARGS=--list)
	@ISTHMUS_ENVOY="$$(tools/envoy.sh)" $(BIN)/python -m loadtests.load.run $(SCENARIO) $(ARGS)

.PHONY: soak
soak: $(VENV)/dev.done fastpath ## Accidents by chance for a long time, and what grows (MINUTES=30, SEED=… plays it again)
	@ISTHMUS_ENVOY="$$(tools/envoy.sh)" $(BIN)/python -m loadtests.load.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: lock
lock: $(VENV)/dev.done ## Lock dependencies anew, with hashes and without index URLs
	@$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --universal --python-version 3.11 pyproject.toml -o requirements.txt
	@$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --universal --python-version 3.11 --extra dev pyproject.toml -o requirements-dev.txt

.PHONY: clean
clean: ## Remove what was installed and built here
	@rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
