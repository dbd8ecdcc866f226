# `make help` lists the targets with the text after ## in their lines.
# Each target installs its requirements, with make and Python 3.11 or newer. Some need more programs:
#   image, container-test    a container engine
#   test-claude-code         npm
#   test, chart              npm, Redis and Prometheus; without them tests are skipped (CI=true: fail)
# Another interpreter: make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Real upstream servers, about 350 MB, for `make test-upstreams`.
UPSTREAMS := $(VENV)-upstreams
# An older version of the official SDK, without the packages that both versions share.
SDK_0_121 := $(VENV)/sdk-0.121
# The lowest versions of the direct requirements, for `make test-lowest`.
LOWEST := $(VENV)-lowest
# The package as users install it, for `make check-package`.
RUNTIME := $(VENV)-runtime
# Linters of Dockerfile and chart, about 300 MB, for `make chart` and `make check-containers`.
LINT := $(VENV)-lint
COMPOSE := $(LINT)/bin/docker-compose
# Envoy and Traefik, about 300 MB, for `make test-fronts`.
FRONTS := $(VENV)-fronts
# Folders that need npm: the SDK for TypeScript, and the schemas of Kubernetes operators.
TYPESCRIPT := tests/integration/sdk/typescript
CRDS := tests/chart/crds
# The real Claude Code, about 380 MB, for `make test-claude-code`.
CLAUDE_CODE := .claude-code
# An empty value permits writing bytecode. With bytecode the processes of tests start twice as fast.
export PYTHONDONTWRITEBYTECODE =
NPM_CI = npm ci --ignore-scripts --no-audit --no-fund --loglevel=error

# The locks are complete, so --no-deps is enough. uv installs them in seconds. pip is the fallback for
# machines that set the package index in the configuration of pip, which uv does not read.
INSTALL_WITH = $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $(1) || $(BIN)/python -m pip install --quiet --no-deps $(1)
INSTALL_LOCKED = $(call INSTALL_WITH,--require-hashes -r $(1))
INSTALL_PROJECT = $(call INSTALL_WITH,--no-build-isolation -e .)

# Options of `make coverage`, which takes more than twice as long as `make test`.
COVERAGE =
# The number of test processes. The tests of a module run in one process, because they share fixtures.
# The slow integration tests come first, so that all processes end at nearly the same time.
JOBS = auto
PARALLEL = -n $(JOBS) --dist loadfile --no-loadscope-reorder

# For `make test-python`: tests whose result may depend on the version of Python.
TESTS = tests/unit tests/integration $(addprefix --ignore=tests/integration/,$(SAME_ON_ALL))

# For `make mutation`: the number of faults, and the seed that selects them.
SAMPLE = 100
SEED = 1

# For `make soak`.
SECONDS = 600
WORKERS = 1

# Tests of other programs, which one version of Python covers.
SAME_ON_ALL = demo sdk/test_typescript.py test_bench.py test_package.py test_prometheus.py test_soak.py

IMAGE = anthropic-proxy:dev
# Additional options of `docker build`; `--build-arg EXTRAS=` omits the extras.
BUILD =

.PHONY: demo help test coverage test-python test-lowest t mutation npm judges check-containers \
  test-claude-code test-upstreams test-fronts check format docs lock lock-check check-package \
  soak image container-test bench chart clean

demo: $(VENV)/.demo ## Run the demo with a small model on the CPU (default target)
	$(BIN)/anthropic-proxy demo

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "%-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

coverage: ## Run all tests, and fail below the coverage limit
	@$(MAKE) --no-print-directory test COVERAGE="--cov --cov-report=term:skip-covered"

test: $(VENV)/.dev ## Run all tests
	@if [ "$$CI" = true ]; then $(MAKE) --no-print-directory npm; \
	elif command -v npm >/dev/null; then $(MAKE) --no-print-directory npm || echo "npm failed: tests that need it are skipped"; fi
	$(BIN)/python -m pytest $(PARALLEL) $(COVERAGE)
	PYTHONPATH=$(SDK_0_121) $(BIN)/python -m pytest $(PARALLEL) tests/integration/sdk/test_sdk*.py

test-python: $(VENV)/.dev ## Run the tests that depend on the version of Python
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

test-lowest: ## Run the unit tests with the lowest versions of the direct requirements
	@$(MAKE) --no-print-directory VENV=$(LOWEST) $(LOWEST)/.lowest
	$(LOWEST)/bin/python -m pytest $(PARALLEL) tests/unit

t: $(VENV)/.dev ## Run one file, folder or test, such as T=tests/unit/wire
	$(if $(T),,$(error T is required, for example: make t T=tests/unit/providers/test_profiles.py))
	$(BIN)/python -m pytest -q $(T)

mutation: $(VENV)/.dev ## Check that the unit tests find small faults (half an hour or more)
	$(BIN)/python -m tests.mutation --sample $(SAMPLE) --seed $(SEED)

npm: ## Install the npm packages that tests need
npm: $(TYPESCRIPT)/node_modules/.package-lock.json $(CRDS)/node_modules/.package-lock.json

test-claude-code: ## Run the tests with the real Claude Code (needs npm)
test-claude-code: $(VENV)/.dev $(CLAUDE_CODE)/node_modules/.package-lock.json
	CLAUDE_CODE_BINARY=$$(ls $(CURDIR)/$(CLAUDE_CODE)/node_modules/@anthropic-ai/claude-code-*/claude | head -n 1) \
	$(BIN)/python -m pytest --timeout 900 tests/claude_code

test-upstreams: ## Run the tests with real upstream servers
	@$(MAKE) --no-print-directory VENV=$(UPSTREAMS) $(UPSTREAMS)/.dev
	@$(MAKE) --no-print-directory VENV=$(UPSTREAMS) $(UPSTREAMS)/.servers || echo "cannot install Ollama: its tests are skipped"
	TEST_UPSTREAMS=1 $(UPSTREAMS)/bin/python -m pytest -rfE --timeout 900 tests/upstreams

test-fronts: $(VENV)/.dev ## Run the tests with Envoy and Traefik in front of the server
	@$(MAKE) --no-print-directory VENV=$(FRONTS) $(FRONTS)/.fronts
	FRONTS=$(CURDIR)/$(FRONTS)/bin $(BIN)/python -m pytest tests/fronts

check: $(VENV)/.dev ## Check format, lint rules, types and imports
	$(BIN)/ruff format --check src tests bench container docs
	$(BIN)/ruff check src tests bench container docs
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Format the code and fix lint errors
	$(BIN)/ruff format src tests bench container docs
	$(BIN)/ruff check --fix src tests bench container docs

docs: $(VENV)/.dev ## Write the generated pages in docs/
	$(BIN)/python -m docs.generators.compatibility > docs/compatibility.md
	$(BIN)/python -m docs.generators.settings > docs/settings.md
	$(BIN)/python -m docs.generators.upstreams > docs/upstreams.md
	$(BIN)/python -m docs.generators.token_estimates > docs/token-estimates.md

LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url

# The folder of the locks.
LOCKS = requirements

# The locks contain hashes but no addresses, so that any index can serve them. `make lock` keeps
# locked versions that satisfy pyproject.toml, and UPGRADE=--upgrade selects the newest versions.
lock: $(VENV)/.base ## Write the locks in requirements/ (UPGRADE=--upgrade for new versions)
	$(LOCK) $(UPGRADE) --universal -o $(LOCKS)/runtime.txt pyproject.toml
	$(LOCK) $(UPGRADE) --universal -o $(LOCKS)/redis.txt --extra redis pyproject.toml
	$(LOCK) $(UPGRADE) --universal -o $(LOCKS)/otel.txt --extra otel pyproject.toml
	$(LOCK) $(UPGRADE) --universal -o $(LOCKS)/build.txt requirements/build.in
	$(LOCK) $(UPGRADE) --universal -o $(LOCKS)/demo.txt --extra demo requirements/build.in pyproject.toml
	$(LOCK) $(UPGRADE) --universal -o $(LOCKS)/dev.txt --extra demo --group dev requirements/build.in pyproject.toml
	$(LOCK) $(UPGRADE) --no-deps -o $(LOCKS)/uv.txt requirements/uv.in
	$(LOCK) $(UPGRADE) --universal -o $(LOCKS)/lint.txt requirements/lint.in
	$(LOCK) $(UPGRADE) --no-deps -o $(LOCKS)/fronts.txt requirements/fronts.in
	$(LOCK) $(UPGRADE) --no-deps -o $(LOCKS)/model.txt requirements/model.in
	$(LOCK) $(UPGRADE) --no-deps -o $(LOCKS)/ollama.txt requirements/ollama.in
	$(LOCK) $(UPGRADE) --no-deps -o $(LOCKS)/sdk-0.121.txt requirements/sdk-0.121.in

# New releases on the index do not matter, because locked versions stay.
lock-check: $(VENV)/.base ## Check that the locks satisfy pyproject.toml
	rm -rf $(VENV)/locks
	cp -R requirements $(VENV)/locks
	@$(MAKE) --no-print-directory --silent lock LOCKS=$(VENV)/locks
	diff -ru requirements $(VENV)/locks || { echo "the locks are stale: run make lock" >&2; exit 1; }

check-package: $(VENV)/.dev ## Build the wheel, install it with the locked versions, and start it
	rm -rf $(RUNTIME) $(VENV)/dist
	$(BIN)/python -m hatchling build -d $(VENV)/dist
	@$(MAKE) --no-print-directory VENV=$(RUNTIME) WHEEL=$$(ls $(VENV)/dist/*.whl) $(RUNTIME)/.runtime
	$(RUNTIME)/bin/uv pip check --python $(RUNTIME)/bin/python
	$(RUNTIME)/bin/anthropic-proxy --version

soak: $(VENV)/.dev ## Run the soak test (SECONDS, WORKERS)
	$(BIN)/python -m bench.soak --seconds $(SECONDS) --workers $(WORKERS)

bench: $(VENV)/.dev ## Run the benchmark and write bench.json
	$(BIN)/python -m bench --json bench.json

image: ## Build the container image (needs a container engine)
	docker build --build-arg VERSION=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/anthropic_proxy/__init__.py) \
	  --build-arg REVISION=$$(git rev-parse HEAD) --build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) $(BUILD) -t $(IMAGE) .

container-test: $(VENV)/.dev ## Test the container image (needs a container engine)
	IMAGE=$(IMAGE) $(BIN)/python -m pytest -rfEs --timeout 900 container

judges: ## Install the linters for Dockerfiles and the chart
	@$(MAKE) --no-print-directory VENV=$(LINT) $(LINT)/.judges

check-containers: judges ## Lint the Dockerfiles and the Compose files (needs no container engine)
	$(LINT)/bin/hadolint Dockerfile container/ollama/Dockerfile
	$(LINT)/bin/checkov --config-file container/checkov.yaml --file Dockerfile
	COMPOSE_PROFILES=ollama,observability $(COMPOSE) config --quiet
	COMPOSE_PROFILES=ollama $(COMPOSE) -f docker-compose.yml -f docker-compose.gpu.yml config --quiet
	UPSTREAM_BASE_URL=https://example.com $(COMPOSE) config --quiet

chart: $(VENV)/.dev judges ## Write the README and the package of the chart, and lint its objects
	$(BIN)/python -m tests.chart.readme > chart/README.md
	$(BIN)/python -m tests.chart.render dist
	$(LINT)/bin/checkov --config-file container/checkov.yaml --directory dist/rendered

clean: ## Remove all files that the targets install or build
	rm -rf $(TYPESCRIPT)/node_modules $(CRDS)/node_modules $(CLAUDE_CODE) .venv .venv-* .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis bench.json .import_linter_cache dist

$(VENV)/.base: requirements/uv.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required: make $(MAKECMDGOALS) PYTHON=...")'
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

$(VENV)/.runtime: $(VENV)/.base requirements/runtime.txt requirements/redis.txt requirements/otel.txt
	$(call INSTALL_LOCKED,requirements/runtime.txt)
	$(call INSTALL_LOCKED,requirements/redis.txt)
	$(call INSTALL_LOCKED,requirements/otel.txt)
	$(call INSTALL_WITH,$(WHEEL))
	touch $@

# The requirements of the tests stay locked.
$(VENV)/.lowest: $(VENV)/.dev
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --no-header --no-annotate -o $(VENV)/lowest.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r $(VENV)/lowest.txt
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
