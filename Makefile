# What each target does stands after its ##; `make help` prints it.
PYTHON := .venv/bin/python
PILEUS := .venv/bin/pileus
PYTEST := $(PYTHON) -m pytest
PARALLEL := -n auto --dist loadfile
ROUNDS ?= 20
MINUTES ?= 10
HISTORIES ?= 200
REQUESTS ?= 50000
.DEFAULT_GOAL := help
.PHONY: help install up test check lint types chaos fuzz conformance bench clean

help: ## print this list
	@sed -n 's/^\([a-z]*\):.* ## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done

install: ## all that needs the network: Debian packages (as root), .venv with pileus, the guest image
	@tools/install

up: install ## install, start the cloud, boot one VM, print how to reach it
	$(PILEUS) up
	$(PILEUS) first-vm

check: ## the inner loop: lint, types, unit and api tests (under 3 minutes)
	@tools/install dev
	@$(MAKE) --no-print-directory lint types
	$(PYTEST) $(PARALLEL) tests/unit tests/api

lint: ## ruff
	.venv/bin/ruff check -q --output-format=concise src

types: ## mypy, strict
	.venv/bin/mypy

test: ## everything a machine without special hardware can run (under 30 minutes)
	@tools/install test
	@tools/run-tests

chaos: ## everything killed at random for MINUTES=10, HISTORIES=200 simulated, then every probe of killed processes ROUNDS=20 times
	@tools/install test
	$(PYTEST) -s --show-capture=no tests/probe/test_chaos.py --minutes=$(MINUTES)
	$(PYTEST) -s --show-capture=no tests/sim --histories=$(HISTORIES) --deeds=1000
	$(PYTEST) tests/probe --rounds=$(ROUNDS) --deselect tests/probe/test_chaos.py

fuzz: ## REQUESTS=50000 odd requests to identity on each database, of another seed each time
	@tools/install test
	$(PYTEST) $(PARALLEL) tests/api/identity/test_fuzz.py --requests=$(REQUESTS)

conformance: ## OpenStack's own suites against a simulated cloud; SUITES="identity smoke" chooses
	@tools/install dev
	$(PYTHON) -m tests.conformance $(SUITES)

bench: ## the promises of docs/promises.md, measured on a simulated cloud; SUITES="identity compute" chooses
	@tools/install
	$(PYTHON) bench/promises.py $(SUITES)

clean: ## remove what was built here (.venv, .build, caches); a running cloud is not touched
	rm -rf .venv .build .mypy_cache .ruff_cache .pytest_cache conformance-results src/*.egg-info
	find src tests tools bench -name __pycache__ -type d -prune -exec rm -rf {} +
