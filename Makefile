# Every target sets up .venv by itself, once, and says what it is doing.
# PYTHON picks the interpreter (PYTHON=python3.12 make setup), VENV the folder it goes to.

VENV     ?= .venv
CHAPTERS ?=
BUDGET   ?= auto
RUN      ?=
TESTS    ?=
JOBS     ?= 2
LAB      ?=
BENCH    ?=

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
say    = printf '\033[1m==>\033[0m %s\n'

# The first Python in range that really starts, unless PYTHON names one.
CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)
IN_RANGE   := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

# An environment keeps its Python: one that does not start, or another one named for it, is worth saying, not passing over.
ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)
ifneq ($(wildcard $(BIN)/python),)
VERSION := -c 'import sys; print(*sys.version_info[:2], sep=".")'
MADE    := $(shell $(BIN)/python $(VERSION) 2>/dev/null)
ifeq ($(MADE),)
$(error $(BIN)/python does not start: say "rm -r $(VENV)", then the same make again, which sets it up anew)
endif
ifneq ($(PYTHON),)
ASKED   := $(shell $(PYTHON) $(VERSION))
ifneq ($(ASKED),$(MADE))
$(error $(VENV) has Python $(MADE), PYTHON=$(PYTHON) is "$(ASKED)": remove $(VENV), or say VENV=.venv-$(ASKED) as well)
endif
endif
endif
endif

.PHONY: help setup run test lab bench doctor build freeze clean
.DEFAULT_GOAL := help

help:  ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

setup: $(STAMP)  ## install everything into .venv (nothing to do when it is there)
	@$(say) "installed in $(VENV): $$($(BIN)/python -V), torch $$($(BIN)/python -c 'from importlib.metadata import version; print(version("torch"))')"

run: $(STAMP)  ## execute the chapters: CHAPTERS="01 02" BUDGET=smoke|class|full|auto RUN="--seed 1"
	@$(say) "running $(or $(CHAPTERS),every chapter) at budget $(BUDGET); results go to build/run/"
	@$(BIN)/course run $(CHAPTERS) --budget $(BUDGET) $(RUN)

test: $(STAMP)  ## lint, compare notebooks with their sources, run the tests: TESTS="tests/test_house.py -x" JOBS=2
	@$(say) "ruff: style and plain mistakes"
	@$(BIN)/ruff check .
	@$(say) "course build --check: notebooks equal their sources"
	@$(BIN)/course build --check
	@$(say) "pytest on $(JOBS) processes"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup $(TESTS)

lab: $(STAMP)  ## open JupyterLab on your own copies of the chapters, in work/: LAB="--no-browser --port 8890"
	@$(BIN)/course lab $(LAB)

bench: $(STAMP)  ## measure speed, widgets, tables of results: BENCH="widgets latent"
	@$(say) "measuring; this takes minutes and wants an idle machine"
	@$(BIN)/course bench $(BENCH)

doctor: $(STAMP)  ## what works on this machine, and the command that repairs the rest
	@$(BIN)/course doctor

build: $(STAMP)  ## turn notebooks/src/*.py into notebooks/*.ipynb
	@$(say) "building the notebooks from notebooks/src"
	@$(BIN)/course build

freeze: $(STAMP)  ## write the versions in .venv to constraints.txt, after the tests passed
	@$(say) "writing constraints.txt"
	@{ sed -n '/^#/p' constraints.txt; \
	   $(BIN)/python -m pip list --format freeze --exclude-editable | grep -viE '^(pip|nvidia|cuda|triton)' | sed 's/+[^ ]*$$//'; \
	 } > constraints.tmp && mv constraints.tmp constraints.txt

clean:  ## remove what can be made again (build/, caches); keeps .venv, work/ and data/
	@$(say) "removing build/, dist/ and caches; $(VENV), work/ and data/ stay"
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	@find course_utils tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# ---- the installation ------------------------------------------------------------------------------------------------
# A Python without its venv parts (Debian splits them off) still makes an environment: its own pip then fills it.
$(BIN)/python:
	@for python in $(CANDIDATES); do \
	   if $$python -c '$(IN_RANGE)' 2>/dev/null; then found=$$python; break; fi; \
	 done; \
	 if [ -z "$$found" ]; then \
	   echo "No Python from 3.11 to 3.13 among: $(CANDIDATES). Install one, or name it: PYTHON=/path/to/python make setup" >&2; \
	   exit 1; \
	 fi; \
	 $(say) "making $(VENV) with $$found ($$($$found -V))"; \
	 $$found -m venv $(VENV) 2>/dev/null || { \
	   $$found -m venv --clear --without-pip $(VENV) && \
	   $$found -m pip --python $(BIN)/python install -q pip; \
	 }

$(STAMP): pyproject.toml requirements.txt constraints.txt | $(BIN)/python
	@$(say) "installing the course and its tools into $(VENV) (a few minutes and gigabytes the first time: torch)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[lab,instructor,dev]'
	@touch $(STAMP)
