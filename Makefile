# make demo, make test: each builds .venv from the pinned requirements if it is missing. PYTHON: 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
# Half of the tests wait: for servers, schedules, leases. So there are more workers than cores, and the longest come first.
PYTEST := $(BIN)/python -m pytest --numprocesses 4 --dist load --maxschedchunk 1

.PHONY: help demo check test test-all lint types fast unit fuzz benchmark requirements clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/.installed  ## the whole thing over the sample images, offline, no key
	@$(BIN)/visionflow demo

check: .venv/.installed-dev  ## style, types and the tests that need no server: a minute, once it has run
	@$(MAKE) --no-print-directory lint types fast

test: .venv/.installed-dev  ## style, types and every test
	@$(MAKE) --no-print-directory lint types unit

test-all: .venv/.installed-dev  ## those too that need minutes, a browser or other services, where they are there
	@$(MAKE) --no-print-directory lint types
	@THOROUGH=1 $(PYTEST) -m "all or not all"

lint: .venv/.installed-dev  ## style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/.installed-dev  ## static types
	@$(BIN)/mypy

# Rooms whose tests neither decode pictures by the hundred nor kill processes.
FAST := asking billing labelling listing planning recording schemas scoring storage test_docs.py test_purity.py test_repository.py
fast: .venv/.installed-dev  ## tests of a few rooms, without those that wait for a server
	@$(PYTEST) -m "not all and not server" $(addprefix tests/,$(FAST))

unit: .venv/.installed-dev  ## tests alone
	@$(PYTEST)

fuzz: .venv/.installed-dev  ## break files of every format for SECONDS (60) and see that each ends as a row
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

benchmark: .venv/.installed-dev  ## speed against the bare SDK, on this machine
	@$(BIN)/python -m tests.benchmark

# Compiled at installation: importing Prefect takes twice as long without.
.venv/.installed: requirements.txt pyproject.toml
	@echo "Building .venv from requirements.txt, once: about a minute."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(INSTALL) --require-hashes --compile -r requirements.txt
	@$(INSTALL) --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q config flows tasks
	@touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	@echo "Adding the tools of the tests to .venv, once."
	@$(INSTALL) --require-hashes --compile -r requirements-dev.txt
	@touch $@

# Needs uv. No host of an index stands in the files, and none in a lock file: there is no uv.lock.
COMPILE := uv pip compile pyproject.toml --extra ocr --group build --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --quiet --custom-compile-command "make requirements"
requirements:  ## pin anew
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --group test --constraint requirements.txt --output-file requirements-dev.txt

clean:  ## remove what was built
	rm -rf .venv out .pytest_cache .mypy_cache .ruff_cache
