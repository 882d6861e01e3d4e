.DEFAULT_GOAL := help
.PHONY: help setup setup-deploy demo dev test check chaos simulate mutations docs screenshots build deploy deploy-local bench clean

# What `sam build` builds for: arm64, as the template deploys, or x86_64, as most machines run locally.
ARCHITECTURE ?= arm64
PYTHON ?= python3
ENVIRONMENT ?= dev

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export SAM_CLI_TELEMETRY := 0
# The machine's own certificates: many a company's network has one of its own.
export UV_SYSTEM_CERTS := 1
export PYTHONDONTWRITEBYTECODE := 1

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: .venv/ready ## install what the project needs into .venv

# For the workflow that deploys: only what runs with its rights.
setup-deploy: .venv/bin/uv
	.venv/bin/uv sync --quiet --frozen --only-group deploy

demo: setup ## watch 200 messages go through a Twilio that fails, in under a minute
	@python -m local demo

dev: setup ## the whole stack on this machine at real speed, until Ctrl-C
	@python -m local dev

test: setup ## run the tests
	@pytest -n auto --dist loadgroup

check: setup ## format, lint, types, floors, template, migrations, policies, workflows
	ruff format --check .
	ruff check .
	mypy
	PYTHONPATH=layers/sms_retry/python lint-imports
	squawk sql/migrations/*.sql
	sam validate --lint
	@UV_PROJECT_ENVIRONMENT=build/policy uv sync --quiet --frozen --only-group policy
	build/policy/bin/checkov --config-file .checkov.yaml
	build/policy/bin/zizmor --offline --quiet --persona=auditor .github/workflows

chaos: setup ## kill workers at every step, several hundred times, in about five minutes
	@python -m tests.chaos

simulate: setup ## four weeks in which clocks change, in two minutes, with every guarantee held against them
	@python -m tests.simulation

mutations: setup ## plant bugs, and see the tests catch each
	@python -m tests.mutations

docs: setup ## write the pages of docs/ that are made from data
	@python -m tests.pages

build: setup ## build the Lambdas and their layers into .aws-sam
	LAMBDA_ARCHITECTURE=$(ARCHITECTURE) sam build --parameter-overrides Architecture=$(ARCHITECTURE)

# A section that names its own Architecture keeps it, unless ARCHITECTURE is given.
deploy: build ## build, check and deploy; ENVIRONMENT=dev, staging or prod is a section of samconfig.toml
	@python -m deploy $(ENVIRONMENT) $(if $(filter file,$(origin ARCHITECTURE)),,Architecture=$(ARCHITECTURE))

deploy-local: setup ## the same `sam deploy` against an AWS on this machine, until Ctrl-C
	@python -m local deploy

screenshots: setup ## take the console's pictures in docs/images anew
	@python -m local screenshots

bench: setup ## measure claims, sends and callbacks beside peers and limits
	@uv sync --quiet --frozen --group dev --group peers
	@python -m tests.benchmarks

clean: ## remove what the other targets made
	rm -rf .venv .aws-sam build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/ready: .venv/bin/uv pyproject.toml uv.lock Makefile
	.venv/bin/uv sync --quiet --frozen
	# So that `python -m sms_retry` is there.
	echo $(CURDIR)/layers/sms_retry/python > $$(.venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/sms_retry.pth
	touch $@

.venv/bin/uv: uv.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement uv.txt
	touch $@
