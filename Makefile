# Every target sets itself up: nothing is needed but make and a Python >= 3.11.
#   make test PYTHON=python3.13 VENV=.venv-3.13     runs on another interpreter
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Holds real servers, about 350 MB, for `make test-upstreams` alone.
UPSTREAMS := $(VENV)-upstreams
# Another version of the official SDK, beside the newest one; only what differs between the two is installed.
SDK_0_121 := $(VENV)/sdk-0.121
# Judges of Dockerfile and chart, about 300 MB, for `make chart` and `make check-containers` alone.
LINT := $(VENV)-lint
COMPOSE := $(LINT)/bin/docker-compose
# Envoy and Traefik, about 300 MB, for `make test-fronts` alone.
FRONTS := $(VENV)-fronts
# What needs npm: the SDK for TypeScript, and the schemas of Kubernetes' operators. Their tests are skipped where there is none.
TYPESCRIPT := tests/integration/sdk/typescript
CRDS := tests/chart/crds
# The real Claude Code, about 380 MB, for `make test-claude-code` alone.
CLAUDE_CODE := .claude-code
NPM_CI = npm ci --ignore-scripts --no-audit --no-fund --loglevel=error

# The locks are complete, so there is nothing to resolve. uv installs them in seconds; pip, slower, is there for machines whose
# package index is set in pip's configuration, which uv does not read.
INSTALL_WITH = $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $(1) || $(BIN)/python -m pip install --quiet --no-deps $(1)
INSTALL_LOCKED = $(call INSTALL_WITH,--require-hashes -r $(1))
INSTALL_PROJECT = $(call INSTALL_WITH,--no-build-isolation -e .)

# What `make test` measures; empty for none.
COVERAGE = --cov --cov-report=term:skip-covered

# Of the soak test.
SECONDS = 600
WORKERS = 1

IMAGE = anthropic-proxy:dev
# More for `docker build`, such as --build-arg EXTRAS= for none.
BUILD =

.PHONY: demo test t npm judges check-containers test-claude-code test-upstreams test-fronts check format docs lock soak image container-test bench chart clean

demo: $(VENV)/.demo
	$(BIN)/anthropic-proxy demo

test: $(VENV)/.dev
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory npm || echo "npm failed: the tests that need it are skipped"; fi
	$(BIN)/python -m pytest $(COVERAGE)
	PYTHONPATH=$(SDK_0_121) $(BIN)/python -m pytest tests/integration/sdk/test_sdk*.py

# One file, folder or test, without coverage: make t T=tests/unit/providers/test_profiles.py
t: $(VENV)/.dev
	$(if $(T),,$(error T names what to run: make t T=tests/unit/providers/test_profiles.py))
	$(BIN)/python -m pytest -q $(T)

npm: $(TYPESCRIPT)/node_modules/.package-lock.json $(CRDS)/node_modules/.package-lock.json

test-claude-code: $(VENV)/.dev $(CLAUDE_CODE)/node_modules/.package-lock.json
	CLAUDE_CODE_BINARY=$$(ls $(CURDIR)/$(CLAUDE_CODE)/node_modules/@anthropic-ai/claude-code-*/claude | head -n 1) \
	$(BIN)/python -m pytest tests/claude_code

test-upstreams:
	@$(MAKE) --no-print-directory VENV=$(UPSTREAMS) $(UPSTREAMS)/.dev
	@$(MAKE) --no-print-directory VENV=$(UPSTREAMS) $(UPSTREAMS)/.servers || echo "Ollama can't be installed: it is skipped"
	TEST_UPSTREAMS=1 $(UPSTREAMS)/bin/python -m pytest -rfE tests/upstreams

test-fronts: $(VENV)/.dev
	@$(MAKE) --no-print-directory VENV=$(FRONTS) $(FRONTS)/.fronts
	FRONTS=$(CURDIR)/$(FRONTS)/bin $(BIN)/python -m pytest tests/fronts

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests bench container docs
	$(BIN)/ruff check src tests bench container docs
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format src tests bench container docs
	$(BIN)/ruff check --fix src tests bench container docs

docs: $(VENV)/.dev
	$(BIN)/python -m docs.generators.compatibility > docs/compatibility.md
	$(BIN)/python -m docs.generators.upstreams > docs/upstreams.md

LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url

# The locks hold hashes and no addresses, so that any index can serve them.
lock: $(VENV)/.base
	$(LOCK) --universal -o requirements/runtime.txt pyproject.toml
	$(LOCK) --universal -o requirements/redis.txt --extra redis pyproject.toml
	$(LOCK) --universal -o requirements/otel.txt --extra otel pyproject.toml
	$(LOCK) --universal -o requirements/build.txt requirements/build.in
	$(LOCK) --universal -o requirements/demo.txt --extra demo requirements/build.in pyproject.toml
	$(LOCK) --universal -o requirements/dev.txt --extra demo --group dev requirements/build.in pyproject.toml
	$(LOCK) --no-deps -o requirements/uv.txt requirements/uv.in
	$(LOCK) --universal -o requirements/lint.txt requirements/lint.in
	$(LOCK) --no-deps -o requirements/fronts.txt requirements/fronts.in
	$(LOCK) --no-deps -o requirements/model.txt requirements/model.in
	$(LOCK) --no-deps -o requirements/ollama.txt requirements/ollama.in
	$(LOCK) --no-deps -o requirements/sdk-0.121.txt requirements/sdk-0.121.in

soak: $(VENV)/.dev
	$(BIN)/python -m bench.soak --seconds $(SECONDS) --workers $(WORKERS)

bench: $(VENV)/.dev
	$(BIN)/python -m bench --json bench.json

image:
	docker build --build-arg VERSION=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/anthropic_proxy/__init__.py) \
	  --build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) $(BUILD) -t $(IMAGE) .

container-test: $(VENV)/.dev
	IMAGE=$(IMAGE) $(BIN)/python -m pytest -rfEs container

judges:
	@$(MAKE) --no-print-directory VENV=$(LINT) $(LINT)/.judges

# No engine is needed for these.
check-containers: judges
	$(LINT)/bin/hadolint Dockerfile container/ollama/Dockerfile
	$(LINT)/bin/checkov --config-file container/checkov.yaml --file Dockerfile
	COMPOSE_PROFILES=ollama,observability $(COMPOSE) config --quiet
	COMPOSE_PROFILES=ollama $(COMPOSE) -f docker-compose.yml -f docker-compose.gpu.yml config --quiet
	UPSTREAM_BASE_URL=https://example.com $(COMPOSE) config --quiet

# The chart's README and package, and what the judge of Kubernetes' objects has to say: nothing, else this fails.
chart: $(VENV)/.dev judges
	$(BIN)/python -m tests.chart.readme > chart/README.md
	$(BIN)/python -m tests.chart.render dist
	$(LINT)/bin/checkov --config-file container/checkov.yaml --directory dist/rendered

clean:
	rm -rf $(TYPESCRIPT)/node_modules $(CRDS)/node_modules $(CLAUDE_CODE) .venv .venv-* .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis bench.json .import_linter_cache dist

$(VENV)/.base: requirements/uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	touch $@

$(VENV)/.demo: $(VENV)/.base requirements/demo.txt requirements/model.txt pyproject.toml
	$(call INSTALL_LOCKED,requirements/demo.txt)
	$(call INSTALL_LOCKED,requirements/model.txt)
	$(INSTALL_PROJECT)
	touch $@

$(VENV)/.dev: $(VENV)/.base requirements/dev.txt requirements/model.txt requirements/sdk-0.121.txt pyproject.toml
	$(call INSTALL_LOCKED,requirements/dev.txt)
	$(call INSTALL_LOCKED,requirements/model.txt)
	$(call INSTALL_LOCKED,requirements/sdk-0.121.txt --upgrade --target $(SDK_0_121))
	$(INSTALL_PROJECT)
	touch $@

$(VENV)/.fronts: $(VENV)/.base requirements/fronts.txt
	$(call INSTALL_LOCKED,requirements/fronts.txt)
	touch $@

$(VENV)/.judges: $(VENV)/.base requirements/lint.txt
	$(call INSTALL_LOCKED,requirements/lint.txt)
	touch $@

$(VENV)/.servers: $(VENV)/.dev requirements/ollama.txt
	$(call INSTALL_LOCKED,requirements/ollama.txt)
	touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && $(NPM_CI)
	touch $@

$(CLAUDE_CODE)/node_modules/.package-lock.json: tests/claude_code/package-lock.json
	mkdir -p $(CLAUDE_CODE)
	cp tests/claude_code/package.json tests/claude_code/package-lock.json $(CLAUDE_CODE)
	cd $(CLAUDE_CODE) && $(NPM_CI)
	touch $@
