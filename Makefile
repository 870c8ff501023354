# Two commands set up everything on a machine with Python 3.10+, make and a C compiler:
#   make demo    optimise ResNet-50, compare it with PyTorch
#   make test    format, types, tests
# The environment is .venv (VENV=… for another); steps that were done are not done again.

PYTHON      ?= python3
VENV        ?= .venv
PYTEST_ARGS ?= -n 2 --dist loadfile
BENCH_ARGS  ?= resnet50 mobilenet_v2 --batch 1 --threads 2
SUITE       ?= quick

PIP   := $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet -c requirements/constraints.txt
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help
.PHONY: help demo test lint format types check docs bench suite table dev constraints clean

help: ## show this
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(STAMP)-demo ## optimise ResNet-50 with the poster's call and compare it with PyTorch
	@$(VENV)/bin/python examples/demo.py

test: lint types check ## what has to hold for a change

lint: $(STAMP)-test ## format and lint
	@$(VENV)/bin/ruff format --check --quiet . || { echo "not formatted: run 'make format'"; exit 1; }
	@$(VENV)/bin/ruff check --quiet .

format: $(STAMP)-test ## format, and fix what the linter can fix
	@$(VENV)/bin/ruff format --quiet .
	@$(VENV)/bin/ruff check --quiet --fix .

types: $(STAMP)-test ## mypy --strict
	@$(VENV)/bin/mypy --no-error-summary

check: $(STAMP)-test ## pytest
	@$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

docs: $(STAMP)-test ## write the generated pages and the outputs on pages of docs/ anew
	@$(VENV)/bin/python -m sol.ops.docs > docs/operators.md
	@$(VENV)/bin/python -m sol.cntk.docs > docs/operators-cntk.md
	@$(VENV)/bin/python -m sol.mxnet.docs > docs/operators-mxnet.md
	@$(VENV)/bin/python -m sol.tensorflow.docs 2>/dev/null > docs/operators-tensorflow.md
	@$(VENV)/bin/python -m sol.onnx.docs > docs/operators-onnx.md
	@$(VENV)/bin/python -m tests.docs.pages --renew

bench: $(STAMP)-bench ## Sol against its rivals: make bench BENCH_ARGS="vgg16 --batch 1 16"
	@$(VENV)/bin/sol bench $(BENCH_ARGS)

suite: $(STAMP)-bench ## a named set of networks: make suite SUITE=vision
	@$(VENV)/bin/python benchmarks/run.py $(SUITE)

table: $(STAMP)-bench ## measure what is missing in docs/benchmarks.md (hours, on a machine that does nothing else)
	@$(VENV)/bin/python benchmarks/table.py

dev: $(STAMP)-bench $(STAMP)-test ## everything in one environment

constraints: $(STAMP)-bench $(STAMP)-test ## pin the versions that are installed now
	@{ grep '^#' requirements/constraints.txt; $(VENV)/bin/python -m pip freeze --all \
	  | grep -viE '^(sol-nn|pip)\b|^-e ' | sed 's/+cpu$$//'; } > $(STAMP)-pins
	@mv $(STAMP)-pins requirements/constraints.txt

clean: ## remove the environment and what tools left
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The model zoos ask for one exact build of PyTorch, and MXNet for a NumPy of its time, so they come
# without dependencies, after it.
$(VENV)/bin/python:
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(STAMP)-demo: pyproject.toml requirements/constraints.txt | $(VENV)/bin/python
	@echo "installing Sol, PyTorch and torchvision (once)"
	@$(PIP) -e '.[torch]' pillow
	@$(PIP) --no-deps torchvision
	@touch $@

$(STAMP)-test: pyproject.toml requirements/constraints.txt | $(VENV)/bin/python
	@echo "installing Sol, PyTorch, TensorFlow and what the tests need (once)"
	@$(PIP) -e '.[torch,tensorflow,test]'
	@$(PIP) --no-deps torchvision timm
	@$(PIP) --no-deps mxnet || echo "MXNet does not come for this machine: its tests are skipped"
	@touch $@

$(STAMP)-bench: pyproject.toml requirements/constraints.txt | $(VENV)/bin/python
	@echo "installing Sol, PyTorch and the rivals (once)"
	@$(PIP) -e '.[torch,bench]' pillow transformers
	@$(PIP) --no-deps torchvision timm
	@touch $@
