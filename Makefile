# Everything a person types: `make run`, `make test`, `make bench`, `make lint`. What is installed lies in .venv and
# node_modules; a stamp file says which lock file it was installed from.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NPM_CI := PATH="$$PATH:$(CURDIR)/$(BIN)" npm ci --silent --no-progress --omit=optional --ignore-scripts
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes
RUN_STAMP := $(VENV)/.installed-run
CHECKOUT_STAMP := $(VENV)/.installed-checkout
DEV_STAMP := $(VENV)/.installed-dev
NPM_STAMP := node_modules/.installed
NPM_DEV_STAMP := node_modules/.installed-dev
ONLY ?=

.PHONY: run setup wheel client test test-long bench lint outdated format lock screenshots clean

run: setup
	$(BIN)/python manage.py up --set anonymous_read=true

setup: $(CHECKOUT_STAMP) $(NPM_STAMP)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Zarkov needs Python 3.11 or newer; say which with: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "Python's venv is missing; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.txt | $(BIN)/python
	@echo "Installing Python packages (once; a minute or two)"
	@$(PIP) -r requirements.txt
	@touch $@

# The command `zarkov` and the entry points of the metrics backends.
$(CHECKOUT_STAMP): pyproject.toml setup.py $(RUN_STAMP)
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(RUN_STAMP)
	@echo "Installing Python packages for development (once)"
	@$(PIP) -r requirements-dev.txt
	@touch $@

# npm of the machine, else the one in a wheel.
$(NPM_STAMP): package-lock.json | $(BIN)/python
	@echo "Installing front-end packages (once)"
	@command -v npm >/dev/null || $(PIP) -r requirements-node.txt
	@$(NPM_CI) --omit=dev
	@touch $@

$(NPM_DEV_STAMP): package-lock.json $(NPM_STAMP)
	@echo "Installing JavaScript packages for development (once)"
	@$(NPM_CI)
	@touch $(NPM_STAMP) $@

# The wheel of the server, and the one for programs that only send: zarkov.client and zibrato, without Django.
wheel: setup
	rm -rf build ingest/build
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . ./ingest
	rm -rf build ingest/build ingest/*.egg-info
	@ls dist/*.whl

client: wheel

test: setup $(DEV_STAMP) $(NPM_DEV_STAMP)
	$(BIN)/python -m pytest -n auto --dist loadscope $(PYTEST)

test-long: setup $(DEV_STAMP) $(NPM_DEV_STAMP)
	ZARKOV_TEST_LONG=1 $(BIN)/python -m pytest -n 0 --timeout=7200 -m long $(PYTEST)

bench: setup $(DEV_STAMP) $(NPM_DEV_STAMP)
	$(BIN)/python -m tests.bench --only "$(ONLY)"

lint: setup $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy -p mapreduce -p ingest -p aggregates -p zarkov_site
	$(BIN)/python -m tests.locked_versions

# What is locked and behind its newest release; asks the package index.
outdated: setup $(DEV_STAMP)
	$(BIN)/python -m tests.locked_versions --outdated

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: setup $(DEV_STAMP)
	$(BIN)/python -m tests.screenshots docs/images

# Regenerate the lock files from pyproject.toml, without addresses of package indexes.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(BIN)/python
	$(BIN)/python -m pip --quiet install uv
	$(LOCK) pyproject.toml --group build -o requirements.txt
	$(LOCK) pyproject.toml --extra dev -c requirements.txt -o requirements-dev.txt
	$(LOCK) --group node -o requirements-node.txt

clean:
	rm -rf $(VENV) node_modules build ingest/build dist *.egg-info ingest/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
