# `make check` is the fast half of CI; `make test` is CI.
SHELL := /bin/bash
PY := .venv/bin/python
export UV_SYSTEM_CERTS := 1
PYTHONWARNINGS ?=
# Two at a time, whole files: many tests wait for processes and servers most of their time.
PYTEST := $(PY) -m pytest -q -n 2 --dist loadfile

.PHONY: help setup check fix test bench chaos escape faults demo lock image image-check clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: .venv/ready  ## everything into .venv, nothing else

.venv/ready: requirements/all.txt pyproject.toml deploy/setup.sh
	@bash deploy/setup.sh
	@touch $@

check: setup  ## format, lint, types, import rules, fast tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	$(PYTEST) tests/unit tests/architecture

fix: setup  ## what the formatter and linter can mend by themselves
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

test: setup  ## every test, with the servers they talk to
	@bash deploy/servers.sh
	$(MAKE) --no-print-directory check
	$(PYTEST) tests --ignore=tests/unit --ignore=tests/architecture

bench: setup  ## the benchmark tables, with ratios beside the plain alternative
	@bash deploy/servers.sh
	$(PY) -m tests.bench

PARTS := $(if $(PART),--part $(PART),--parts 10)
CHAOS := $(if $(LONG),$(PARTS) --results $(or $(RESULTS),chaos-results),--kills $(or $(KILLS),20) --messages $(or $(MESSAGES),200))

chaos: setup  ## kill -9 under load, with an independent checker: KILLS=200 MESSAGES=2000 SEED=1, or LONG=1 PART=3/10 SEED=1
	@bash deploy/servers.sh
	$(PY) -m tests.chaos $(CHAOS) --seed $(or $(SEED),1)

escape: setup  ## each attack at each level of isolation that this machine has, by the CLI's own Bash (LEVELS="landlock")
	@bash deploy/servers.sh
	$(PY) -m tests.escape $(LEVELS)

faults: setup  ## faults on the wire, of model, process and machine: times to notice and to heal (NAMES="slack mail.killed")
	@bash deploy/servers.sh
	$(PY) -m tests.faults $(NAMES)

demo: setup  ## the whole daemon with stand-ins: no key, no Slack, no mailbox (ONCE=1, LIVE=1)
	.venv/bin/postroom demo $(if $(ONCE),--once) $(if $(LIVE),--live)

lock: ## write requirements/*.txt anew from pyproject.toml (needs uv)
	bash deploy/lock.sh

image:  ## the container image (needs a container engine)
	docker build -t postroom .

image-check: setup  ## walk the Dockerfile's steps in a clean Debian tree (root, debootstrap)
	$(PY) -m tests.image

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
