# `make help` lists the targets with the text that follows ## in their lines.
# Every target sets itself up with make and a Python >= 3.11. These need more: image and container-test a container engine,
# test-claude-code npm; test and chart skip what needs npm, Redis or Prometheus where they are missing, except with CI=true.
#   make test PYTHON=python3.13 VENV=.venv-3.13     runs on another interpreter
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Holds real servers, about 350 MB, for `make test-upstreams` alone.
UPSTREAMS := $(VENV)-upstreams
# Another version of the official SDK, beside the newest one; only what differs between the two is installed.
SDK_0_121 := $(VENV)/sdk-0.121
# The direct requirements in their lowest versions, for `make test-lowest` alone.
LOWEST := $(VENV)-lowest
# What a user installs, for `make check-package` alone.
RUNTIME := $(VENV)-runtime
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
# Each process of the tests imports hundreds of modules: from bytecode it starts twice as fast. Empty permits writing it.
export PYTHONDONTWRITEBYTECODE =
NPM_CI = npm ci --ignore-scripts --no-audit --no-fund --loglevel=error

# The locks are complete, so there is nothing to resolve. uv installs them in seconds; pip, slower, is there for machines whose
# package index is set in pip's configuration, which uv does not read.
INSTALL_WITH = $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $(1) || $(BIN)/python -m pip install --quiet --no-deps $(1)
INSTALL_LOCKED = $(call INSTALL_WITH,--require-hashes -r $(1))
INSTALL_PROJECT = $(call INSTALL_WITH,--no-build-isolation -e .)

# Options of `make coverage`, which takes more than twice as long as `make test`.
COVERAGE =
# Processes that tests run in. A module's tests stay in one process, since they share its fixtures.
# The integration tests, whose modules take longest, come first: no process waits long for the last module.
JOBS = auto
PARALLEL = -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Of `make test-python`: what may differ between versions of Python.
TESTS = tests/unit tests/integration $(addprefix --ignore=tests/integration/,$(SAME_ON_ALL))

# Of `make mutation`: how many mutants, and which.
SAMPLE = 100
SEED = 1

# Of the soak test.
SECONDS = 600
WORKERS = 1

# Tests that run other programs, and no more of ours than other tests do: one version of Python is enough for them.
SAME_ON_ALL = demo sdk/test_typescript.py test_bench.py test_package.py test_prometheus.py test_soak.py

IMAGE = anthropic-proxy:dev
# More for `docker build`, such as --build-arg EXTRAS= for none.
BUILD =

.PHONY: demo help test coverage test-python test-lowest t mutation npm judges check-containers \
  test-claude-code test-upstreams test-fronts check format docs lock lock-check check-package \
  soak image container-test bench chart clean

demo: $(VENV)/.demo ## Run the demo with a small model on the CPU (default target)
	$(BIN)/anthropic-proxy demo

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "%-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

coverage: ## Run all tests, and fail when they cover too little
	@$(MAKE) --no-print-directory test COVERAGE="--cov --cov-report=term:skip-covered"

test: $(VENV)/.dev ## Run all tests
	@if [ "$$CI" = true ]; then $(MAKE) --no-print-directory npm; \
	elif command -v npm >/dev/null; then $(MAKE) --no-print-directory npm || echo "npm failed: the tests that need it are skipped"; fi
	$(BIN)/python -m pytest $(PARALLEL) $(COVERAGE)
	PYTHONPATH=$(SDK_0_121) $(BIN)/python -m pytest $(PARALLEL) tests/integration/sdk/test_sdk*.py

# What may differ between versions of Python: no other program is judged, and nothing is measured.
test-python: $(VENV)/.dev ## Run the tests that may differ between versions of Python
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

# The lowest versions that pyproject.toml admits, for the package's direct requirements alone.
test-lowest: ## Run the unit tests with the lowest versions of the requirements
	@$(MAKE) --no-print-directory VENV=$(LOWEST) $(LOWEST)/.lowest
	$(LOWEST)/bin/python -m pytest $(PARALLEL) tests/unit

# One file, folder or test, without coverage: make t T=tests/unit/providers/test_profiles.py
t: $(VENV)/.dev ## Run one file, folder or test, such as T=tests/unit/wire
	$(if $(T),,$(error T names what to run: make t T=tests/unit/providers/test_profiles.py))
	$(BIN)/python -m pytest -q $(T)

# How many small faults in the pure packages the unit tests find: half an hour or more.
mutation: $(VENV)/.dev ## Check that the unit tests find small faults (half an hour or more)
	$(BIN)/python -m tests.mutation --sample $(SAMPLE) --seed $(SEED)

npm: ## Install the npm packages that tests need
npm: $(TYPESCRIPT)/node_modules/.package-lock.json $(CRDS)/node_modules/.package-lock.json

test-claude-code: ## Run the tests of the real Claude Code (needs npm)
test-claude-code: $(VENV)/.dev $(CLAUDE_CODE)/node_modules/.package-lock.json
	CLAUDE_CODE_BINARY=$$(ls $(CURDIR)/$(CLAUDE_CODE)/node_modules/@anthropic-ai/claude-code-*/claude | head -n 1) \
	$(BIN)/python -m pytest --timeout 900 tests/claude_code

test-upstreams: ## Run the tests of real upstream servers
	@$(MAKE) --no-print-directory VENV=$(UPSTREAMS) $(UPSTREAMS)/.dev
	@$(MAKE) --no-print-directory VENV=$(UPSTREAMS) $(UPSTREAMS)/.servers || echo "Ollama can't be installed: it is skipped"
	TEST_UPSTREAMS=1 $(UPSTREAMS)/bin/python -m pytest -rfE --timeout 900 tests/upstreams

test-fronts: $(VENV)/.dev ## Run the tests of Envoy and Traefik in front of the server
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
	$(BIN)/python -m docs.generators.upstreams > docs/upstreams.md

LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url

# Where they are written.
LOCKS = requirements

# The locks hold hashes and no addresses, so that any index can serve them. Versions that are locked stay: `make lock` changes
# what pyproject.toml requires, and UPGRADE=--upgrade everything.
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

# Fails where a lock does not satisfy pyproject.toml. New releases on the index change nothing, as locked versions stay.
lock-check: $(VENV)/.base ## Check that the locks satisfy pyproject.toml
	rm -rf $(VENV)/locks
	cp -R requirements $(VENV)/locks
	@$(MAKE) --no-print-directory --silent lock LOCKS=$(VENV)/locks
	diff -ru requirements $(VENV)/locks || { echo "the locks are stale: make lock" >&2; exit 1; }

# The wheel and the locked versions in an environment of their own: whether they fit together, and whether the command starts.
check-package: $(VENV)/.dev ## Build the wheel and install it with the locked versions
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

judges: ## Install the linters of Dockerfiles and chart
	@$(MAKE) --no-print-directory VENV=$(LINT) $(LINT)/.judges

# No engine is needed for these.
check-containers: judges ## Lint the Dockerfiles and the Compose files
	$(LINT)/bin/hadolint Dockerfile container/ollama/Dockerfile
	$(LINT)/bin/checkov --config-file container/checkov.yaml --file Dockerfile
	COMPOSE_PROFILES=ollama,observability $(COMPOSE) config --quiet
	COMPOSE_PROFILES=ollama $(COMPOSE) -f docker-compose.yml -f docker-compose.gpu.yml config --quiet
	UPSTREAM_BASE_URL=https://example.com $(COMPOSE) config --quiet

# The chart's README and package, and what the judge of Kubernetes' objects has to say: nothing, else this fails.
chart: $(VENV)/.dev judges ## Write the chart's README and package, and lint its objects
	$(BIN)/python -m tests.chart.readme > chart/README.md
	$(BIN)/python -m tests.chart.render dist
	$(LINT)/bin/checkov --config-file container/checkov.yaml --directory dist/rendered

clean: ## Remove everything that the targets install or build
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

$(VENV)/.runtime: $(VENV)/.base requirements/runtime.txt requirements/redis.txt requirements/otel.txt
	$(call INSTALL_LOCKED,requirements/runtime.txt)
	$(call INSTALL_LOCKED,requirements/redis.txt)
	$(call INSTALL_LOCKED,requirements/otel.txt)
	$(call INSTALL_WITH,$(WHEEL))
	touch $@

# What the tests need beside stays locked: its versions are no promise of ours.
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
