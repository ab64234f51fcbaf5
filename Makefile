# Every target works on a fresh machine with Python 3.11 or newer: it makes what it needs first.
.DEFAULT_GOAL := help
.PHONY: help install demo test data-test slow-test campaign lowest lint clean

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# `make install PYTHON=python3.12` chooses; otherwise the first that is new enough.
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | \
	while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

install: $(INSTALLED) ## Create .venv with everything in it

$(INSTALLED): pyproject.toml constraints.txt
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	    2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "sentryfuse needs Python 3.11 or newer with venv; tried: $(PYTHONS)." \
	    "Install one or name it: make install PYTHON=python3.12" >&2; exit 1; \
	fi; \
	"$$found" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-input \
	  --constraint constraints.txt --editable '.[train,compare,report,data,mqtt,lsl,serve,sign,dev]'
	@touch $@

demo: $(INSTALLED) ## Train, plan, prune, export and replay; results in demo/
	$(BIN)/sentryfuse demo --out demo

test: $(INSTALLED) ## The unmarked tests
	$(BIN)/pytest -n auto --dist loadscope

data-test: $(INSTALLED) ## Tests on real recordings (SENTRYFUSE_DATA names their folder)
	$(BIN)/pytest -m data

slow-test: $(INSTALLED) ## Tests over 5 s
	$(BIN)/pytest -m slow

campaign: $(INSTALLED) ## The reliability campaign at a small count
	$(BIN)/pytest -m campaign

lowest: $(INSTALLED) ## The unmarked tests with the oldest versions that are allowed, in .venv-lowest
	rm -rf .venv-lowest
	$(BIN)/python -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --disable-pip-version-check --no-input \
	  --constraint constraints-lowest.txt --editable '.[train,compare,report,data,mqtt,lsl,serve,sign,dev]'
	.venv-lowest/bin/python -m pytest -n auto --dist loadscope

lint: $(INSTALLED) ## Style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

clean: ## Remove caches and build outputs, keep .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .venv-device .venv-lowest
	find sentryfuse tests -name __pycache__ -type d -prune -exec rm -rf {} +
