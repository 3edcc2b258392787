# The study's commands. All of them make their environment first, if it is absent or the lock has changed:
#   make study     compute the quick profile on this machine, notebook by notebook (stopped, it resumes)
#   make test      pytest, then every stored notebook output compared by strict nbval
#   make slow      the longer checks, and comparisons with what others wrote
#   make lint      ruff over code and notebooks
#   make lab       open the notebooks
#   make lock      resolve the dependencies anew: requirements.lock and environment.yml
# VENV=DIR uses another environment, PYTHON=python3.12 another interpreter (3.11 or newer), PROFILE=full more evidence.

VENV ?= .venv
PYTHON ?= python3
PROFILE ?= quick
BIN := $(abspath $(VENV))/bin
READY := $(VENV)/.cm3t-ready
# A backend of the caller's would reach the kernels and leave the notebooks without figures.
unexport MPLBACKEND
PIP := $(BIN)/python -m pip install $(if $(CI),-q)

.PHONY: study test nbval slow lint lab lock
.DELETE_ON_ERROR:

study: $(READY)
	$(BIN)/python -m cm3t.run --profile $(PROFILE)

test: $(READY)
	$(BIN)/python -m pytest -q -p no:nbval -n auto --dist loadfile
	$(MAKE) --no-print-directory nbval

# Strict: every stored output of every notebook is compared, unless its cell is tagged; runs go to an empty folder.
nbval: $(READY)
	@if ls notebooks/*.ipynb >/dev/null 2>&1; then \
		local=$$(mktemp -d) && trap 'rm -rf "$$local"' EXIT && \
		CM3T_LOCAL="$$local" $(BIN)/python -m pytest -q -p tests.nbval_floor \
			--nbval --nbval-current-env --nbval-cell-timeout 120 --nbval-sanitize-with tests/nbval.cfg notebooks; \
	else echo "no notebooks yet: nothing for nbval to compare"; fi

slow: $(READY)
	$(PIP) -c requirements.lock -e ".[oracles]"
	$(BIN)/python -m pytest -q -p no:nbval -n auto --dist loadfile -m "slow or oracle"

lint: $(READY)
	$(BIN)/ruff check .

lab: $(READY)
	$(PIP) -c requirements.lock -e ".[notebooks]"
	$(BIN)/jupyter lab notebooks

lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install -q -e ".[test]"
	.venv-lock/bin/python .ci/lock.py
	rm -rf .venv-lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cm3t needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@[ -x $(BIN)/python ] || { echo "making the environment $(VENV); torch is large, minutes go by"; \
		$(PYTHON) -m venv $(VENV); }
	$(PIP) -r requirements.lock
	$(PIP) --no-deps -e .
	@touch $@
