# make demo: the default experiment from images to report.   make test: the whole test suite.   make help: all targets.

PYTHON ?= python3
VENV := .venv
DIRECTORY ?= .
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c envs/constraints.txt

.PHONY: demo test test-slurm lint generate benchmarks clean help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

demo: $(VENV)/.run ## install what is needed and run the default experiment
	$(BIN)/snakemake --cores all --directory "$(DIRECTORY)" --quiet rules host

test: $(VENV)/.dev ## install what testing needs and run the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

test-slurm: $(VENV)/.dev ## test the cluster path on a private Slurm (needs Debian's slurm-wlm munge slurmdbd mariadb-server, and root)
	$(BIN)/python -m pytest tests/slurm
	DEEPCLUST_TEST_ACCOUNTING=1 $(BIN)/python -m pytest tests/slurm/test_accounting.py

lint: $(VENV)/.dev ## check style, types, imports, the workflow and the generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/mypy
	PYTHONPATH=workflow/scripts $(BIN)/lint-imports
	$(BIN)/deepclust generate --check
	$(BIN)/snakemake --lint

generate: $(VENV)/.dev ## write the schema, the options page and the environments anew
	$(BIN)/deepclust generate

benchmarks: $(VENV)/.dev ## measure the numbers of lab/performance.md
	$(BIN)/python lab/run.py

clean: ## remove all results and logs, but not the downloads
	rm -rf results logs .snakemake

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deepclust needs Python 3.11 or later; name one: make demo PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: envs/requirements.txt envs/constraints.txt pyproject.toml setup.py | $(VENV)/bin/python
	@echo "Installing into $(VENV) (once; PyTorch is large) ..."
	$(INSTALL) -r envs/requirements.txt
	$(INSTALL) --no-deps --editable .
	@touch $@

$(VENV)/.dev: envs/requirements-dev.txt $(VENV)/.run
	$(INSTALL) -r envs/requirements-dev.txt
	@touch $@
