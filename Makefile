.DEFAULT_GOAL := help
.PHONY: help setup setup-deploy demo dev doctor test check chaos simulate soak mutations docs data clients screenshots build deploy deploy-local cost bench scale clean

# The architecture for `sam build`: arm64, the default of the template, or x86_64, for most local machines.
ARCHITECTURE ?= arm64
PYTHON ?= python3
ENVIRONMENT ?= dev
MESSAGES ?= 1000000
MINUTES ?= 10
# Files or folders; empty: all tests.
TESTS ?=

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export SAM_CLI_TELEMETRY := 0
# uv trusts the certificates of the machine: many company networks add one.
export UV_SYSTEM_CERTS := 1
# The bytecode of each module is kept, outside the sources, of which SAM copies whole folders.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

help: ## show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: .venv/ready ## install the dependencies into .venv

# For the workflow that deploys: only what runs with its rights.
setup-deploy: .venv/bin/uv
	.venv/bin/uv sync --quiet --frozen --only-group deploy

demo: setup ## send 200 messages through a failing Twilio stand-in, in under a minute
	@python -m local demo

dev: setup ## run the whole stack on this machine in real time, until Ctrl-C
	@python -m local dev

doctor: setup ## check the settings of the stack that make dev runs
	@python -m local doctor

test: setup ## run the tests; takes 10 minutes on two cores
	@pytest -n auto --dist loadgroup $(TESTS)

check: setup ## check format, lint, words, types, floors, migrations, template, policies and workflows
	ruff format --check .
	ruff check .
	python -m tests.words
	mypy
	PYTHONPATH=layers/sms_retry/python lint-imports
	squawk sql/migrations/*.sql
	sam validate --lint
	@UV_PROJECT_ENVIRONMENT=build/policy uv sync --quiet --frozen --only-group policy
	build/policy/bin/checkov --config-file .checkov.yaml
	build/policy/bin/zizmor --offline --quiet --persona=auditor .github/workflows

chaos: setup ## kill workers and publishers, and let Twilio rewrite and lag; takes about 7 minutes
	@python -m tests.chaos

simulate: setup ## simulate four weeks in which clocks change, and check every guarantee; takes about 5 minutes
	@python -m tests.simulation

soak: setup ## run mixed traffic for MINUTES=10, and check that memory, sizes and times stay flat
	@python -m tests.soak $(MINUTES)

mutations: setup ## plant bugs, and check that the tests catch each
	@python -m tests.mutations

docs: setup ## generate the pages of docs/ that come from data
	@python -m tests.pages

data: setup ## write the SQL that is made from libphonenumber's data and from area_codes.csv
	@python -m tests.calling_codes
	@python -m tests.area_codes

clients: setup ## write the clients of applications from their table
	@python -m clients

build: setup ## build the Lambdas and their layers into .aws-sam
	LAMBDA_ARCHITECTURE=$(ARCHITECTURE) sam build --parameter-overrides Architecture=$(ARCHITECTURE)

# A section that names its own Architecture keeps it, unless ARCHITECTURE is given.
deploy: build ## build, check and deploy; ENVIRONMENT=dev, staging or prod is a section of samconfig.toml
	@python -m deploy $(ENVIRONMENT) $(if $(filter file,$(origin ARCHITECTURE)),,Architecture=$(ARCHITECTURE))

deploy-local: setup ## the same `sam deploy` to an AWS emulator on this machine, until Ctrl-C
	@python -m local deploy

cost: setup ## print the bill of AWS for a month with MESSAGES messages
	@python -m deploy.cost $(MESSAGES)

screenshots: setup ## take the screenshots of the console in docs/images again
	@python -m local screenshots

bench: setup ## benchmark claims, sends and callbacks against peers and limits
	@uv sync --quiet --frozen --group dev --group peers
	@python -m tests.benchmarks

scale: setup ## measure the cost of a message in the database, and simulate a billion a day; takes 6 minutes
	@python -m tests.scale

clean: ## remove the files that the other targets made
	rm -rf .venv .aws-sam build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/ready: .venv/bin/uv pyproject.toml uv.lock Makefile
	.venv/bin/uv sync --quiet --frozen
	# For `python -m sms_retry`.
	echo $(CURDIR)/layers/sms_retry/python > $$(.venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/sms_retry.pth
	touch $@

.venv/bin/uv: uv.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement uv.txt
	touch $@
