# On a machine with Python 3.11, make and apt: `make demo` to watch it work, `make test` to check it.
SHELL := /bin/bash
BIN := .venv/bin
# how many tests run side by side; each worker has its own servers
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$(( n > 4 ? 4 : n )))

.PHONY: help setup test lint demo bench soak clean

help:
	@echo "make setup   install what is missing: uv, Python packages, server programs (no service is started)"
	@echo "make test    lint, then all tests on servers of their own (TESTS=path, WORKERS=n)"
	@echo "make lint    ruff and mypy"
	@echo "make demo    CRM and ERP agree while people write to both (ARGS='--seconds 60 --rate 400 --keep')"
	@echo "make bench   speed against PostgreSQL's own replication (ARGS=...)"
	@echo "make soak    what takes long: 50 kill -9 under load, transactions of 2 million rows, rows of 10 MB"
	@echo "make clean   remove caches and build results"

setup:
	@.ci/setup

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(TESTS)

demo: setup
	@$(BIN)/syncline demo $(ARGS)

bench: setup
	@$(BIN)/syncline bench $(ARGS)

soak: setup
	SYNCLINE_KILLS=50 $(BIN)/pytest -q tests/recovery/test_kill.py $(ARGS)
	SYNCLINE_SOAK=1 $(BIN)/pytest -q -s --timeout 3600 tests/integration/test_size.py

clean:
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find adapters bench engine tests -name __pycache__ -type d -prune -exec rm -rf {} +
