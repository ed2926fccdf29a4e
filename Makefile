# make demo      set up, fetch the embedded model and texts, run the demo sweep, say where its report is
# make test      set up, then every test that takes seconds      make test-all   the slow ones too
# make lint      ruff and pyright                                make format     let ruff rewrite
# make bench     the measurements behind every performance claim
# make chaos     faults injected into runs: writes docs/reliability.md
#
# PYTHON=…  the interpreter to build the environment from (3.11 or newer)
# VENV=…    where the environment goes                  ARGS=…  passed on to pytest or the sweep

SHELL := /bin/bash
VENV ?= .venv
ARGS ?=
# Quick tests run in as many processes as there are cores, up to four, each on one thread.
SPREAD := -n logical --maxprocesses 4 --dist loadfile
BIN := $(VENV)/bin
USABLE := import sys; sys.exit(sys.version_info < (3, 11))
TORCH_FOLDER := import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])
SITE_FOLDER := import sysconfig; print(sysconfig.get_path("purelib"))
HAS_GPU_TORCH := import torch; assert torch.version.cuda or torch.version.hip

# The first interpreter that is new enough; a shim that cannot start its Python does not count.
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13,$(shell \
	$(name) -c '$(USABLE)' >/dev/null 2>&1 && echo $(name))))

.PHONY: demo test test-all lint format bench chaos setup setup-dev clean
.DEFAULT_GOAL := test

demo: setup
	$(BIN)/sweep fetch smollm2-135m embedded-wiki embedded-c4
	$(BIN)/sweep run demo --until-certain $(ARGS)
	@echo "The report: runs/demo/report.html (and report.md beside it)"

test: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" $(SPREAD) $(ARGS)

test-all: setup-dev
	$(BIN)/python -m pytest $(ARGS)

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup-dev
	$(BIN)/python -m benchmarks $(ARGS)

chaos: setup-dev
	$(BIN)/python -m tests.chaos $(ARGS)

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

# A torch with GPU support that the interpreter already has is kept: the environment then looks
# through to it (by a .pth file where the interpreter is itself one of an environment), and torch
# is left out of the constraints.
$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python"; exit 1; }
	@if $(PYTHON) -c '$(HAS_GPU_TORCH)' >/dev/null 2>&1; then \
		echo "Keeping the GPU build of torch that $(PYTHON) has"; \
		$(PYTHON) -m venv --system-site-packages $(VENV); \
		$(BIN)/python -c '$(HAS_GPU_TORCH)' >/dev/null 2>&1 || $(PYTHON) -c '$(TORCH_FOLDER)' \
			> "$$($(BIN)/python -c '$(SITE_FOLDER)')/gpu-torch.pth"; \
	else \
		$(PYTHON) -m venv $(VENV); \
	fi

$(VENV)/constraints.txt: constraints.txt $(VENV)/pyvenv.cfg
	@if grep -q 'include-system-site-packages = true' $(VENV)/pyvenv.cfg; then \
		grep -v '^torch==' constraints.txt > $@; \
	else \
		cp constraints.txt $@; \
	fi

$(VENV)/.installed: pyproject.toml $(VENV)/constraints.txt
	$(BIN)/python -m pip install --constraint $(VENV)/constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/constraints.txt
	$(BIN)/python -m pip install --constraint $(VENV)/constraints.txt --editable '.[dev]'
	@touch $(VENV)/.installed $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
