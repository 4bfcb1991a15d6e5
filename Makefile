# Everything that a developer or CI runs. `make` without a target lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where `make run` listens. ARGS takes further arguments of `tollgate serve`.
HTTP ?= 127.0.0.1:8000
ARGS ?=

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Every crate with every feature: otherwise tests that need a feature would silently not run.
ALL = --locked --workspace --all-features
# rustup installs cargo there; a shell that was opened before does not have it in its PATH.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: run
run: setup console ## Set up what is missing, build, and serve on 127.0.0.1:8000 (HTTP=… ARGS=… to change)
	exec $(CARGO) run --locked --release -p tollgate-server -- serve --http $(HTTP) $(ARGS)

.PHONY: test
test: setup-tests setup-deploy console-check lint doc ## Set up what is missing, then check formatting, lints and documentation and run every test
	@# The program is built with the tests, with the same features, so that its dependencies are not built twice.
	$(CARGO) test $(ALL) --no-run
	$(CARGO) test $(ALL) --doc
	TOLLGATE_BIN="$(TARGET)/debug/tollgate" scripts/schemathesis
	TOLLGATE_BIN="$(TARGET)/debug/tollgate" scripts/clients
	TOLLGATE_BIN="$(TARGET)/debug/tollgate" scripts/e2e
	TOLLGATE_BIN="$(TARGET)/debug/tollgate" scripts/python check
	TOLLGATE_BIN="$(TARGET)/debug/tollgate" scripts/deploy check
	python3 -B -m unittest discover --quiet --start-directory loadtest
	@# nextest runs each test in a process of its own, those of all binaries in parallel; without it `cargo test` runs the same tests.
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run $(ALL) --no-fail-fast -E 'not binary_id(tollgate-redis::redis)'; \
	else \
		$(CARGO) test $(ALL) --no-fail-fast --lib --bins --tests --examples; \
	fi
	scripts/redis-tests
	scripts/redis-tests "$(abspath $(TARGET))/valkey/bin/valkey-server"

.PHONY: gateway-demo
gateway-demo: setup ## Start the gateway before a mock model, and print how to call it
	$(CARGO) build --locked --release -p tollgate-server -p tollgate-gateway --features tollgate-gateway/mock-model --bins
	exec scripts/gateway-demo

.PHONY: test-model
test-model: ## Run the end-to-end suite against a real model: the clients, the gateway, and llama.cpp with SmolLM2 135M
	scripts/setup model
	$(CARGO) build --locked --release -p tollgate-server --bin tollgate
	TOLLGATE_BIN="$(TARGET)/release/tollgate" scripts/test-model

.PHONY: envoy-demo
envoy-demo: setup-tests ## Start Envoy before Tollgate and a model without a model, and print how to call it
	$(CARGO) build --locked --release -p tollgate-server --bin tollgate
	TOLLGATE_BIN="$(TARGET)/release/tollgate" exec examples/envoy/run

.PHONY: dist
dist: setup console ## Build the program to ship, small and stripped: target/dist/tollgate
	$(CARGO) build --locked --profile dist -p tollgate-server --bin tollgate

.PHONY: deploy-check
deploy-check: setup-deploy ## Check deploy/ and the workflows: lint, render, and try the alerts and the dashboard with a Prometheus
	scripts/deploy check

.PHONY: bench
bench: setup-tests ## Run every benchmark (BENCH=NAME for one)
	$(CARGO) run --locked --release -p tollgate-bench -- $(or $(BENCH),all)

# The peers are installed below the target directory. ROUNDS changes how many rounds are measured.
.PHONY: bench-peers
bench-peers: setup ## Measure the gateway beside vllm-router, the LiteLLM proxy and Portkey's gateway, before a mock model
	@scripts/setup gateway-peers
	$(CARGO) run --locked --release -p tollgate-bench -- gateway-peers --rounds $(or $(ROUNDS),5)

.PHONY: python
python: setup ## Build the Python package as a wheel, and install it in a clean environment: target/wheels
	@scripts/python wheel

.PHONY: bench-python
bench-python: setup-tests ## Measure the Python package beside the package limits, and in a FastAPI application
	@scripts/python bench

.PHONY: test-peers
test-peers: setup ## Run the test suites of the Python packages limits and Flask-Limiter with the storage of the Python package
	@scripts/python peers

.PHONY: test-litellm
test-litellm: setup-tests ## Run the Python package's hook in a real proxy of LiteLLM, before the mock model
	@scripts/python litellm

.PHONY: python-check
python-check: setup-tests ## Build the Python package for tests; run its tests, and check its types, lint and format
	@scripts/python check

.PHONY: console
console: ## Build the console, if Node.js is installed and the console is not up to date
	@scripts/console

.PHONY: console-check
console-check: ## Build the console and check its types, lint, format, unit tests and sizes
	@scripts/console check

.PHONY: api
api: ## Write the OpenAPI document for the console, and generate its types
	$(CARGO) run --locked -q -p tollgate-server -- openapi > console/openapi.json.new
	mv console/openapi.json.new console/openapi.json
	scripts/console dependencies
	cd console && npm run --silent api && npx prettier --log-level warn --write src/api/schema.d.ts

# HOST and TOLLGATE_ADMIN_TOKEN name a running server to test; TOLLGATE_BIN names a built program to start.
.PHONY: loadtest
loadtest: setup-loadtest ## Load a release build with Locust and judge it (HOST=http://… for a running server)
	if [ -z "$${HOST:-}$${TOLLGATE_BIN:-}" ]; then \
		$(CARGO) build --locked --release -p tollgate-server --bin tollgate; \
		export TOLLGATE_BIN="$(TARGET)/release/tollgate"; \
	fi; \
	exec "$(TARGET)/locust/bin/python" -B loadtest/run.py

# An hour; SOAK_SECONDS, SOAK_FAULT_SECONDS and SOAK_CHECKS_PER_SECOND change that.
SOAK_OPERATIONS ?= 10000000
.PHONY: soak
soak: setup-tests ## Run ten million operations on the scripts and courses of leases in memory beside their models, then an hour of load with a fault a minute (SOAK_OPERATIONS=… SOAK_SECONDS=…)
	TOLLGATE_DIFFERENTIAL_OPERATIONS=$(SOAK_OPERATIONS) \
		$(CARGO) test --locked --release -p tollgate-redis --all-features --test redis -- differential
	PROPTEST_CASES=$(SOAK_OPERATIONS) $(CARGO) test --locked --release -p tollgate-store --all-features \
		--test conformance -- one_shard::ledger::leases_agree_with_the_model
	@# About a minute for each: three servers over one Redis, and over a Cluster.
	TOLLGATE_LEASES_ASKED=4000 $(CARGO) test --locked --release -p tollgate-server --all-features --test nodes -- leases
	$(CARGO) bench --locked -p tollgate-server --bench soak

.PHONY: fuzz
fuzz: ## Fuzz every parser, each target for a minute (FUZZ_SECONDS=… FUZZ=TARGET to change)
	@scripts/setup fuzz
	scripts/fuzz $(FUZZ)

# A full run takes hours: MUTANTS='--shard 3/20' runs a part, MUTANTS='--re FILE' a file.
.PHONY: mutants
mutants: setup-tests ## Make every small change to core and the stores and check that a test fails (MUTANTS=… for a part)
	@scripts/setup mutants
	PATH="$$PWD/$(TARGET)/tools/bin:$$PATH" $(CARGO) mutants $(MUTANTS)

.PHONY: lint
lint: setup-lint ## Check formatting, lints and dependencies; a warning fails
	$(CARGO) fmt --all --check
	scripts/deny
	$(CARGO) clippy $(ALL) --all-targets -- -D warnings

.PHONY: fmt
fmt: setup ## Format the code
	$(CARGO) fmt --all

.PHONY: doc
doc: setup ## Build the API documentation; a broken link fails
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(ALL) --no-deps

.PHONY: setup
setup: ## Install the compiler, linker and tools that are missing
	@scripts/setup

.PHONY: setup-lint
setup-lint: ## The same, and what `make lint` needs: cargo-deny
	@scripts/setup lint

.PHONY: setup-tests
setup-tests: ## The same, and what tests and benchmarks need: Redis, Valkey, memcached, PostgreSQL, Chromium, nginx, Envoy, schemathesis
	@scripts/setup tests

.PHONY: setup-deploy
setup-deploy: ## Install what checks deploy/: Prometheus, systemd-analyze, hadolint, Helm, docker compose, actionlint
	@scripts/setup deploy

.PHONY: setup-loadtest
setup-loadtest: ## The same, and what the load test needs: Locust
	@scripts/setup loadtest

.PHONY: clean
clean: ## Remove everything that was built
	$(CARGO) clean

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
