# Two commands do all the set-up: `make demo` and `make test`. They need this file, GNU make 3.81 or newer, and Python 3.11
# or newer with its venv module; everything else goes into .venv.

# The first of these that runs is taken; `make PYTHONS=/path/to/python3 test` names another.
PYTHONS = python3.14 python3.13 python3.12 python3.11 python3
SUITS = import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
CODE = worker operator tests examples benchmarks
SCRIPTS = .ci/run e2e/kind/run.sh
BIN = .venv/bin
RELEASES = tests/fixtures/releases
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' worker/pg_scheduler/__init__.py)

export PIP_DISABLE_PIP_VERSION_CHECK = 1
PIP_INSTALL = $(BIN)/python -m pip install --quiet --no-input
LOCK = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command 'make lock'

.DEFAULT_GOAL = help
.PHONY: help demo test chaos chaos-steps schedules-proof bench lint format audit e2e e2e-long lock schema release-fixture clean venv

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

demo: venv ## jobs and schedules from examples/manifests on a PostgreSQL of its own, live in the terminal
	@$(BIN)/pgscheduler demo examples/manifests

# In several processes (tests/support/progress.py says in how many): ARGS=-n0 runs them in one.
test: venv ## every test but the cluster tier; lists what this machine lacks
	@$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

# Tests of `make test` that prove the more the longer they run, at the design's figures.
chaos: venv ## 10,000 rounds of every race, 50 kills in 100,000 jobs, 20 failovers, wrong clocks, 2,000 scenes; hours, -k pg18 half
	@PGSCHEDULER_TEST_SIZE=full $(BIN)/python -m pytest -o log_cli=true -o log_cli_level=INFO $(ARGS) \
	  tests/store/test_winners.py tests/faults/test_kills.py tests/faults/test_failover.py tests/faults/test_clocks.py \
	  tests/engine/test_simulation_and_engine.py tests/engine/test_testing.py

# The virtual workers of tests/support/stepper.py for as long as one likes; a failure says which seed repeats it.
chaos-steps: venv ## the engine statement by statement, SEED=1 STEPS=100000: losses, freezes, clock jumps, all judged
	@PYTHONPATH=tests $(BIN)/python -m support.chaos_steps $(if $(SEED),--seed $(SEED)) $(if $(STEPS),--steps $(STEPS))

# The walk of ticks against a scan of every minute; tests/support/schedules_proof.py says what is looked at.
schedules-proof: venv ## every change of every zone's clocks from 1990 to 2040, walked under 46 cron rules; some minutes
	@PYTHONPATH=tests $(BIN)/python -m support.schedules_proof

# Alone on the machine, if the figures are to mean anything. `make bench ARGS=--help` lists the scenarios.
bench: venv ## the library beside a bare asyncpg loop: figures, ratios, goals; about 20 minutes
	@$(BIN)/python -m benchmarks $(ARGS)

# Everything that is wrong, in one run. The cluster tier has a conftest.py of its own, so mypy looks at it apart.
lint: venv ## style, types, import contracts, workflow files, shell scripts
	@failed=; \
	$(BIN)/ruff check $(CODE) e2e .ci || failed=yes; \
	$(BIN)/ruff format --check $(CODE) e2e .ci || failed=yes; \
	$(BIN)/mypy $(CODE) || failed=yes; \
	$(BIN)/mypy e2e || failed=yes; \
	$(BIN)/mypy .ci/audit.py || failed=yes; \
	$(BIN)/lint-imports || failed=yes; \
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml || failed=yes; \
	$(BIN)/shellcheck $(SCRIPTS) || failed=yes; \
	test -z "$$failed"

format: venv ## let ruff format the code and fix what it can
	@$(BIN)/ruff format $(CODE) e2e .ci
	@$(BIN)/ruff check --fix $(CODE) e2e .ci

audit: venv ## ask PyPI for known vulnerabilities of the locked packages
	@$(BIN)/python .ci/audit.py $(BIN)/pip-audit

e2e: venv ## the cluster tier, on a real Kubernetes: Linux, as root; builds and installs what it needs
	@$(BIN)/python e2e/run.py $(ARGS)

# Tests of `make e2e` that prove the more the longer they run, at the design's figures.
e2e-long: venv ## the cluster tier in full: 10,000 objects, faults of 30 s, ten minutes without operator or database; an hour
	@PGSCHEDULER_TEST_SIZE=full $(BIN)/python e2e/run.py -o log_cli=true -o log_cli_level=INFO $(ARGS)

lock: venv ## write requirements/*.txt anew from pyproject.toml
	@$(PIP_INSTALL) uv
	@$(LOCK) --all-extras pyproject.toml -o requirements/dev.txt
	@$(LOCK) --extra image pyproject.toml -c requirements/dev.txt -o requirements/image.txt
	@sed -n 's/^requires = \["\(hatchling.*\)"\]$$/\1/p' pyproject.toml | $(LOCK) - -c requirements/dev.txt -o requirements/build.txt
	@$(LOCK) --group pyproject.toml:sbom -c requirements/dev.txt -o requirements/sbom.txt

schema: venv ## write worker/pg_scheduler/_store/schema.sql anew from the migrations
	@PYTHONPATH=tests $(BIN)/python -m support.schema_file

# The wheel as it was released: what the next schema has to serve; the chart: what the next one upgrades (docs/how-to/release.md).
release-fixture: venv ## keep this release's wheel and chart for the tests of later ones
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(RELEASES)/$(VERSION) .
	@helm=$$(PYTHONPATH=tests $(BIN)/python -m support.helm)/helm-4.3.1 && $$helm package charts/pgscheduler --destination $(RELEASES)/$(VERSION)
	@ls -l $(RELEASES)/*

clean: ## remove .venv, build results and caches
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*

# Made once, and anew when the lock's content changes; the dates of a fresh checkout say nothing. The copies of what it was
# made from are written last, so that an interrupted run starts over.
venv:
	@if ! cmp -s requirements/dev.txt .venv/made-from.txt || ! $(BIN)/python -c '' 2>/dev/null; then \
	  for python in $(PYTHONS) none; do \
	    if $$python -c '$(SUITS)' >/dev/null 2>&1; then break; fi; \
	  done; \
	  if [ $$python = none ]; then \
	    echo 'No Python 3.11 or newer with its venv module was found. Install one, then run make again:' >&2; \
	    echo '  Debian, Ubuntu:  sudo apt-get install python3 python3-venv' >&2; \
	    echo '  macOS:           brew install python@3.13' >&2; \
	    echo 'or name it: make PYTHONS=/path/to/python3 ...   (tried: $(PYTHONS))' >&2; \
	    exit 1; \
	  fi; \
	  echo "Making .venv with $$($$python --version); a minute or two, once"; \
	  rm -rf .venv && $$python -m venv .venv \
	  && $(PIP_INSTALL) --require-hashes -r requirements/dev.txt \
	  && cp requirements/dev.txt .venv/made-from.txt; \
	fi
	@if ! cat pyproject.toml worker/pg_scheduler/__init__.py | cmp -s - .venv/installed-from.txt; then \
	  $(PIP_INSTALL) --no-deps --no-build-isolation --editable . \
	  && cat pyproject.toml worker/pg_scheduler/__init__.py > .venv/installed-from.txt; \
	fi
