# Needs git, make and a python3 >= 3.11 with venv; everything else goes into .venv. `make help` lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# Airflow starts several times slower without bytecode; foreign module paths and environments have no business in ours.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX UV_PYTHON UV_SYSTEM_PYTHON
# `make PYTHON=/path/to/python3 ...` chooses the interpreter of .venv.
export PYTHON

PY := .venv/bin/python
UV := .ci/uv
READY := .venv/.ready
PROJECTS := pyproject.toml schemas/pyproject.toml relay/pyproject.toml bridge/pyproject.toml edge_worker/pyproject.toml
PACKAGES := -e "./schemas[broker]" -e "./relay[server]" -e ./bridge -e ./edge_worker
COMPILE := pip compile $(PROJECTS) --group dev --all-extras --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock" --quiet \
	--no-emit-package edge-relay-schemas --no-emit-package edge-relay \
	--no-emit-package edge-relay-bridge --no-emit-package edge-relay-worker
# `make test ARGS="-k poll -x"` hands options on to what the target runs.
ARGS :=

# A virtual environment remembers where it was made: after the folder has been moved it is created again.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

.PHONY: help demo demo-queue up test test-compose soak check bench structure fmt lock clean check-format check-lint check-types \
	check-imports check-structure check-generated check-lock check-images docs screenshots

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## start the local system, run a demo DAG through a proxy, report, stop; exit status 0 if all checks passed
	PYTHONPATH="$(CURDIR)/compose" $(PY) -m local.demo.run_demo $(ARGS)

demo-queue: $(READY) ## start a relay and two workers without Airflow, run 200 commands, kill a worker, report, stop
	PYTHONPATH="$(CURDIR)/compose" $(PY) -m local.demo.run_queue_demo $(ARGS)

up: $(READY) ## start the local system, print its URLs and logins, run until Ctrl-C
	PYTHONPATH="$(CURDIR)/compose" $(PY) -m local.demo.up $(ARGS)

# In several processes: much of their time passes in waiting.
test: $(READY) ## run all tests but those of `make soak` and `make test-compose`
	$(PY) tests/side_by_side.py $(ARGS)

# The images that it starts from are named by IMAGE_..., see compose/.env.example; WITHOUT_GRAFANA=1 where there is none of it.
test-compose: $(READY) ## build and start compose/ in Docker, kill its parts, restore a backup; prints figures; some minutes
	$(PY) -m pytest -m compose -s tests/compose $(ARGS)

soak: $(READY) ## run the tests that take minutes: parts killed at random, long cuts; some need Docker or PostgreSQL
	$(PY) -m pytest -m soak tests $(ARGS)

check: check-format check-lint check-types check-imports check-structure check-generated check-lock check-images ## lint, types, import rules, structure, generated files, lock, Dockerfiles

check-format: $(READY)
	$(PY) -m ruff format --check .

check-lint: $(READY)
	$(PY) -m ruff check .

check-types: $(READY)
	$(PY) -m mypy

check-imports: $(READY)
	PYTHONPATH="$(CURDIR)/compose" .venv/bin/lint-imports --no-logo

check-structure: $(READY)
	@PYTHONPATH="$(CURDIR)/tests" $(PY) -m structure --check >.venv/structure.txt \
		|| { sed -n '/### Bounds/,$$p' .venv/structure.txt >&2; echo "'make structure' prints where" >&2; exit 1; }

check-generated: $(READY)
	$(PY) docs/generate.py --check
	PYTHONPATH="$(CURDIR)/compose" $(PY) -m grafana.boards --check

# Resolves with the versions of the lock preferred: newer releases change nothing, a changed dependency list does.
check-lock: $(READY)
	@cp requirements.lock .venv/expected.lock
	@$(UV) $(COMPILE) --output-file .venv/expected.lock
	@diff requirements.lock .venv/expected.lock >/dev/null \
		|| { echo "requirements.lock is behind the dependency lists: run 'make lock'" >&2; exit 1; }
	$(PY) compose/images/requirements.py --check

check-images: $(READY)
	.venv/bin/hadolint compose/images/*.Dockerfile

bench: $(READY) ## print the measured figures
	PYTHONPATH="$(CURDIR)/tests:$(CURDIR)/compose" $(PY) -m bench $(ARGS)

structure: $(READY) ## print sizes, import circles, uses of Any, the call path of a job; ARGS=--check checks their bounds
	PYTHONPATH="$(CURDIR)/tests" $(PY) -m structure $(ARGS)

fmt: $(READY) ## format, and repair what the linter can repair
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

docs: $(READY) ## write the generated pages under docs/reference, and Grafana's dashboards
	$(PY) docs/generate.py
	PYTHONPATH="$(CURDIR)/compose" $(PY) -m grafana.boards

screenshots: $(READY) ## write the pictures of the dashboard in docs/images/ui; needs Chromium
	SCREENSHOTS=1 $(PY) -m pytest -q tests/integration/dashboard/test_accessibility.py \
		tests/integration/page/test_in_browser.py $(ARGS)

lock: $(READY) ## write requirements.lock after a change of dependencies; ARGS=--upgrade takes newer versions too
	@$(UV) $(COMPILE) $(ARGS) --output-file requirements.lock
	@$(PY) compose/images/requirements.py

clean: ## remove the environment, caches and what the demo left
	rm -rf .venv .run .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock $(PROJECTS) .ci/venv
	@.ci/venv
	@$(UV) pip install --python $(PY) --quiet --compile-bytecode --require-hashes --requirement requirements.lock
	@$(UV) pip install --python $(PY) --quiet --no-deps --no-build-isolation $(PACKAGES)
	@printf '%s' "$(CURDIR)" > $(READY)
