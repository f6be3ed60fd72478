# Serving from Scratch. Every target sets up .venv by itself when needed; run `make` for a list.

# The Python that .venv is made with; the first of 3.11 or later, if you name none.
PYTHON ?=
LESSON ?=
PORT ?= 8888
SUITE ?= core

PYTHONS := python3.11 python3.12 python3.13 python3 python
BIN := .venv/bin
STAMP := .venv/.installed
# nbgrader calls alembic by its name.
WITH_BIN := PATH="$(CURDIR)/$(BIN):$$PATH"

# Where .venv was made, which is written into its programs: one that was moved, or copied with the
# checkout, would run the code and open the workspace of the other place.
HOME_OF_VENV := $(shell sed -n 's|^command = .* \(/.*\)/\.venv$$|\1|p' .venv/pyvenv.cfg 2>/dev/null)
MOVED := $(shell [ ! -f $(STAMP) ] || [ -z "$(HOME_OF_VENV)" ] || [ "$(HOME_OF_VENV)" = "$(CURDIR)" ] || echo moved)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help lab test style types journeys build grade bench clean moved

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

lab: $(STAMP) ## Open a lesson in JupyterLab (LESSON=1 PORT=8888), or the guide the first time
	@$(BIN)/course lab $(LESSON) --port $(PORT)

# Lessons are tested beside each other: three processes, each with one lesson, or one file, at a time.
# On two cores, too: browsers, servers and kernels are waited for often.
# What failed in runs before is forgotten first, or the few below would be looked for among them.
PYTEST = pytest -n 3 --dist loadscope --cache-clear --junitxml=artifacts/$(RESULTS).xml

# Checks stop answers that take too long, so a machine that stands still for seconds can fail a test.
# The few that failed are asked once more, with nobody beside them; who fails again has failed.
ALONE = pytest --last-failed --last-failed-no-failures none --junitxml=artifacts/$(RESULTS)_alone.xml
FEW_FAILED := [ $$? = 1 ] && failed=$$(grep -cs '": true' .pytest_cache/v/cache/lastfailed) && [ $$failed -le 10 ]
ONCE_MORE = { $(FEW_FAILED) && echo "Asking what failed once more, alone" && $(WITH_BIN) $(ALONE); }

test: RESULTS := pytest
journeys: RESULTS := journeys

# One lesson alone is tested whole, journeys included: there are few of each.
test: $(STAMP) ## Check everything but the journeys, or all that concerns one lesson (LESSON=7)
	@mkdir -p artifacts
ifneq ($(strip $(LESSON)),)
	$(WITH_BIN) course build --check $(LESSON)
	$(WITH_BIN) $(PYTEST) --lesson $(LESSON) || $(ONCE_MORE)
else
	@$(MAKE) --no-print-directory --jobs=2 style types
	$(WITH_BIN) $(PYTEST) -m "not journey" || $(ONCE_MORE)
endif

style: $(STAMP) ## Check style, docstrings, and that lessons/ is what the sources build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/interrogate --quiet course_lib autograder
	$(WITH_BIN) course build --check

types: $(STAMP) ## Check types
	$(BIN)/mypy

journeys: $(STAMP) ## Go users' whole ways: JupyterLab in a browser, hand-ins and engines that are graded
	@mkdir -p artifacts
	$(WITH_BIN) $(PYTEST) -m journey || $(ONCE_MORE)

build: $(STAMP) ## Write lessons/ from solutions/, all or one (LESSON=7)
	@$(WITH_BIN) course build $(LESSON)

grade: $(STAMP) ## Autograde all that is in grading/submitted with nbgrader
	@$(BIN)/course autograde

bench: $(STAMP) ## Measure how fast the library is (SUITE=core)
	@$(BIN)/course bench $(SUITE)

clean: ## Delete what can be made again: .venv, caches, artifacts; never workspace/ or the gradebook
	@rm -rf .venv artifacts build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	@rm -f solutions/*.ipynb solutions/*/*.ipynb
	@find course_lib autograder tests -name __pycache__ -type d -prune -exec rm -rf {} +

moved:

# The stamp is written last and removed first, so an interrupted installation is never taken for a
# whole one: without a stamp, .venv is made from nothing.
$(STAMP): pyproject.toml constraints.txt $(MOVED)
	@if [ -n "$(MOVED)" ]; then \
	    echo ".venv was made in another folder ($(HOME_OF_VENV)); it is made anew here"; rm $(STAMP); \
	fi
	@fits() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	if [ -f $(STAMP) ] && fits $(BIN)/python; then rm $(STAMP); else \
	    python=""; \
	    for candidate in $(or $(PYTHON),$(PYTHONS)); do \
	        if fits "$$candidate"; then python=$$candidate; break; fi; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo "no Python 3.11 or later among: $(or $(PYTHON),$(PYTHONS)); install one (Debian:" \
	            "apt-get install python3 python3-venv) or name it: make lab PYTHON=/path/to/python3" >&2; \
	        exit 1; \
	    fi; \
	    if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	        echo "$$python has no venv module; install it (Debian: apt-get install python3-venv)" \
	            "or name another Python: make lab PYTHON=/path/to/python3" >&2; \
	        exit 1; \
	    fi; \
	    echo "Making .venv with $$("$$python" --version)"; \
	    "$$python" -m venv --clear .venv || exit 1; \
	fi
	@echo "Installing the course and what it needs into .venv; this takes about two minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' \
	    || { echo "the installation failed; see the message above, then run make again" >&2; exit 1; }
	@touch $(STAMP)
