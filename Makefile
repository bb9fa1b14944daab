# `make book` and `make test` set up everything in .venv first, and only once.

PYTHON  ?= python3
PROFILE ?= smoke
JOBS    ?= 3
ARGS    ?=
# cpu or cuda; what .venv already holds is kept unless you say otherwise.
TORCH   ?= $(or $(patsubst .venv/.ready-%,%,$(firstword $(wildcard .venv/.ready-*))),cpu)

TORCH_VERSION := 2.13.0
# What torch itself needs: in the lock, because torch is not.
TORCH_NEEDS := filelock fsspec jinja2 networkx setuptools sympy typing-extensions
CPU_INDEX   := --extra-index-url https://download.pytorch.org/whl/cpu

VENV  := .venv/bin/python
PIP   := $(VENV) -m pip --disable-pip-version-check --no-input -qq
READY := .venv/.ready-$(TORCH)
# Prints cpu, cuda, or nothing where torch is not installed.
BUILD := sed -n 's/^cuda.*= None$$/cpu/p; s/^cuda.*= .*/cuda/p' .venv/lib/python3*/site-packages/torch/version.py 2>/dev/null

ifeq ($(filter $(TORCH),cpu cuda),)
$(error TORCH=$(TORCH) is not known: use TORCH=cpu or TORCH=cuda)
endif

.DELETE_ON_ERROR:
.PHONY: help setup book check test trust lint lock licences bench clean distclean

help: ## list the targets (default)
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
	    printf '  make %-10s %s\n' "$$name" "$$text"; done
	@echo "  TORCH=cuda installs the CUDA build; PYTHON=python3.12 chooses the interpreter; PROFILE=paper the book's profile"

setup: $(READY) ## create .venv with the locked packages

book: $(READY) ## build the book into _build/html
	@.venv/bin/rodpo book --profile "$(PROFILE)"
	@echo "book: $(CURDIR)/_build/html/index.html"

check: $(READY) ## execute every notebook again and say which recorded metric moved; ARGS="--update" accepts it
	@.venv/bin/rodpo check --profile "$(PROFILE)" $(ARGS)

# One thread for each of the JOBS: threads that share a core wait for one another, spinning. Three on two cores, because
# one of them mostly waits for Slurm.
test: $(READY) ## run the tests; ARGS="-k ranks" chooses some
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV) -m pytest -q -rs -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# One process and one thread: what is killed is timed.
trust: $(READY) ## kill jobs and break files, all of it, and write what was counted; ARGS="fuzz" chooses
	@OMP_NUM_THREADS=1 PYTHONPATH=tests $(VENV) -m trust.run $(ARGS)

lint: $(READY) ## check style with ruff, and the layers of both packages
	@$(VENV) -m ruff check .
	@$(VENV) -m ruff format --check .
	@.venv/bin/lint-imports

# The peers' environments lie in .bench/, with the same build of torch; what is finished is not measured again.
bench: $(READY) ## compare with peer libraries; ARGS=--quick for a check
	@$(VENV) benchmarks/run.py $(if $(filter cpu,$(TORCH)),--torch-options="$(CPU_INDEX) --retries 2 --timeout 30") $(ARGS)

# An existing lock keeps its versions; `make lock UPGRADE=--upgrade` moves them.
# torch is left out (see the torch step below), what it needs is added by name.
lock: $(VENV) ## rewrite requirements.lock from pyproject.toml
	@$(PIP) install uv
	@echo torch > .venv/not-locked.txt
	@printf '%s\n' $(TORCH_NEEDS) > .venv/torch-needs.txt
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras --excludes .venv/not-locked.txt \
	    --no-header --annotation-style line --no-emit-index-url --no-emit-find-links $(UPGRADE) \
	    pyproject.toml .venv/torch-needs.txt --output-file requirements.lock
	@{ echo "# Every package of every extra, for Python 3.11 to 3.13; written by \`make lock\`, not by hand."; \
	   echo "# torch is not here: make installs it by itself, so that the CPU build can be chosen."; \
	   sed 's/-r \.venv\/torch-needs\.txt/torch/; s/rodpo-lite (pyproject\.toml)/rodpo-lite/; s/  *# via/  # via/' requirements.lock; \
	 } > .venv/requirements.lock && mv .venv/requirements.lock requirements.lock

licences: $(READY) ## rewrite LICENCES.csv, what the locked packages are licensed under, after `make lock`
	@.venv/bin/pip-licenses --with-system --with-urls --format=csv --ignore-packages rodpo-lite pip --output-file LICENCES.csv

clean: ## remove the built book and caches
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
	find rodpo_lite companion tests notebooks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove .venv and .bench as well
	rm -rf .venv .bench *.egg-info

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || { \
	    echo "Python 3.11, 3.12 or 3.13 is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing);" \
	         "name another one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "creating .venv ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv .venv

# The CPU index carries only torch: where it cannot be reached, the registry's own build is taken.
# The second torch line then adds what that build needs, at the locked versions.
# Compiled on all cores at the end (without the files that are written for newer Pythons): where Python may not write
# bytecode, as in many images, each command would otherwise spend more than half of its time on compiling torch again.
$(READY): pyproject.toml requirements.lock Makefile | $(VENV)
	@rm -f .venv/.ready-*
	@build=$$($(BUILD)); [ "$${build:-$(TORCH)}" = $(TORCH) ] || $(PIP) uninstall --yes torch
	@echo "installing torch $(TORCH_VERSION) ($(TORCH) build) …"
	@if [ $(TORCH) = cpu ]; then \
	    $(PIP) install --no-compile --no-deps --retries 2 --timeout 30 $(CPU_INDEX) torch==$(TORCH_VERSION) \
	        2>.venv/torch.log || { cat .venv/torch.log >&2; exit 1; }; \
	    [ "$$($(BUILD))" = cpu ] || echo "note: the CPU build could not be had; the CUDA build works too, but takes gigabytes"; fi
	@$(PIP) install --no-compile -c requirements.lock torch==$(TORCH_VERSION)
	@echo "installing the locked packages …"
	@$(PIP) install --no-compile --no-deps -r requirements.lock
	@echo "installing rodpo_lite …"
	@$(PIP) install --no-deps --no-build-isolation -e .
	@$(VENV) -m pip check >/dev/null || { $(VENV) -m pip check; exit 1; }
	@$(VENV) -m compileall -qq -j 0 .venv/lib || true
	@touch $@
