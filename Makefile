# Two commands do all the set-up:
#
#   make demo    the main job, as its users do it by hand afterwards
#   make test    what tests need, then the tests
#
# PYTHON names the interpreter (3.11 or later), VENV the environment's folder.
PYTHON ?= python3
VENV ?= .venv
PYTEST ?= --numprocesses=auto
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: demo test lint clean
.DEFAULT_GOAL := help

help:
	@sed -n '3,6p' Makefile | cut -c3-

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "wg needs Python 3.11 or later: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "this Python cannot make environments: install its venv package (Debian: python3-venv)"; exit 2; }

# One stamp for each set of extras: installed again only when pyproject.toml changes.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	pip install --editable '.[rtx]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo pyproject.toml
	pip install --editable '.[rtx,dev]'
	@touch $@

demo: $(VENV)/.demo
	wg train -m +sweep=demo
	wg report runs/demo
	wg export --winner reports/demo
	wg vocode reports/demo wg/audio/demo/flac/held_out -o reports/demo/vocoded
	@echo
	@echo "page:   $(CURDIR)/reports/demo/index.html"
	@echo "engine: $(CURDIR)/reports/demo/export/model.engine"

test: $(VENV)/.test
	python -m pytest $(PYTEST)

lint: $(VENV)/.test
	ruff check . && ruff format --check . && mypy && lint-imports

clean:
	rm -rf $(VENV) runs/demo reports/demo
