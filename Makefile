# Everything a developer or CI runs. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where `make run` listens; what else `tollgate serve` takes goes into ARGS.
HTTP ?= 127.0.0.1:8000
ARGS ?=

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Every crate with every feature, or tests that need a feature would silently not run.
ALL = --locked --workspace --all-features
# Where rustup puts cargo, for a shell that was opened before rustup ran.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: run
run: setup console ## Set up what is missing, build, and serve on 127.0.0.1:8000 (HTTP=… ARGS=… to change)
	exec $(CARGO) run --locked --release -p tollgate-server -- serve --http $(HTTP) $(ARGS)

.PHONY: test
test: setup-tests console-check lint doc ## Set up what is missing, then formatting, lints, documentation and every test
	$(CARGO) test $(ALL) --doc
	CARGO=$(CARGO) scripts/schemathesis
	CARGO=$(CARGO) scripts/e2e
	python3 -B -m unittest discover --quiet --start-directory loadtest
	@# nextest runs the binaries' tests side by side; without it `cargo test` runs the same tests.
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run $(ALL) --no-fail-fast; \
	else \
		$(CARGO) test $(ALL) --no-fail-fast --lib --bins --tests --examples; \
	fi
	@# The tests of the store on Valkey as well: in one process, whose tests share their servers.
	TOLLGATE_TEST_REDIS_SERVER="$(abspath $(TARGET))/valkey/bin/valkey-server" \
		$(CARGO) test $(ALL) --test redis

.PHONY: dist
dist: setup console ## Build the program to ship, small and stripped: target/dist/tollgate
	$(CARGO) build --locked --profile dist -p tollgate-server --bin tollgate

.PHONY: bench
bench: setup-tests ## Run every benchmark (BENCH=NAME for one)
	$(CARGO) run --locked --release -p tollgate-bench -- $(or $(BENCH),all)

.PHONY: console
console: ## Build the console, if there is Node.js and it is not built already
	@scripts/console

.PHONY: console-check
console-check: ## Build the console; its types, lint, format, unit tests and sizes
	@scripts/console check

.PHONY: api
api: ## Write the OpenAPI document down for the console, and make its types anew
	$(CARGO) run --locked -q -p tollgate-server -- openapi > console/openapi.json.new
	mv console/openapi.json.new console/openapi.json
	cd console && npm run --silent api && npx prettier --log-level warn --write src/api/schema.d.ts

# HOST and TOLLGATE_ADMIN_TOKEN load a server that runs; TOLLGATE_BIN names a program that is built.
.PHONY: loadtest
loadtest: setup-loadtest ## Load a release build with Locust and judge it (HOST=http://… for a server that runs)
	if [ -z "$${HOST:-}$${TOLLGATE_BIN:-}" ]; then \
		$(CARGO) build --locked --release -p tollgate-server --bin tollgate; \
		export TOLLGATE_BIN="$(TARGET)/release/tollgate"; \
	fi; \
	exec "$(TARGET)/locust/bin/python" -B loadtest/run.py

# An hour; SOAK_SECONDS, SOAK_FAULT_SECONDS and SOAK_CHECKS_PER_SECOND change that.
SOAK_OPERATIONS ?= 10000000
.PHONY: soak
soak: setup-tests ## Ten million operations to the scripts and to their model, then an hour of load with a fault a minute (SOAK_OPERATIONS=… SOAK_SECONDS=…)
	TOLLGATE_DIFFERENTIAL_OPERATIONS=$(SOAK_OPERATIONS) \
		$(CARGO) test --locked --release -p tollgate-redis --all-features --test redis -- differential
	$(CARGO) bench --locked -p tollgate-server --bench soak

.PHONY: fuzz
fuzz: ## Fuzz everything that is parsed, each target for a minute (FUZZ_SECONDS=… FUZZ=TARGET to change)
	@scripts/setup fuzz
	scripts/fuzz $(FUZZ)

# All of it takes hours: MUTANTS='--shard 3/20' takes a part, MUTANTS='-f FILE' a file.
.PHONY: mutants
mutants: setup-tests ## Change core and the stores in every small way and see that a test notices (MUTANTS=… for a part)
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
setup: ## Install what is missing of compiler, linker and tools
	@scripts/setup

.PHONY: setup-lint
setup-lint: ## The same, and what only `make lint` needs: cargo-deny
	@scripts/setup lint

.PHONY: setup-tests
setup-tests: ## The same, and what only tests and benchmarks need: Redis, Valkey, PostgreSQL, Chromium, schemathesis
	@scripts/setup tests

.PHONY: setup-loadtest
setup-loadtest: ## The same, and what only the load test needs: Locust
	@scripts/setup loadtest

.PHONY: clean
clean: ## Remove everything that was built
	$(CARGO) clean

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
