# Airside. `make run` tries it out, `make test` proves it; both set up what they need in .venv.
#   make run IMAGES=./images DATA=./data LISTEN=127.0.0.1:5050 ARGS='--log-format json'
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test check unit fix coverage check-commits graph bench stress torture loaded hosted \
        fuzz docs screenshots walkthrough manifests chart wheel frozen packages image installer dist test-dist test-frozen lock clean \
        setup setup-test setup-dist setup-fuzz setup-docs

BIN := .venv/bin
LIBRARY := src/airside/page/assets/idiomorph.js
ifeq ($(shell id -u),0)
DEFAULT_IMAGES := /var/lib/airside/images
else
DEFAULT_IMAGES := $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/airside/images
endif
RUN_FLAGS := $(if $(IMAGES),--images '$(IMAGES)') $(if $(DATA),--data '$(DATA)') \
             $(if $(LISTEN),--listen '$(LISTEN)') $(ARGS)

# Where it is set, each of the hundreds of agents that the tests start would compile its source.
export PYTHONDONTWRITEBYTECODE :=

# Every file that is built has this time: of the last commit, or what SOURCE_DATE_EPOCH says.
EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),1767225600)
ARCHS := amd64 arm64
FROZEN_TESTS := tests/component/test_cli_offline.py tests/system/test_mirror_that_hangs.py tests/system/test_restart.py
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/airside/__init__.py)
REVISION := $(shell git rev-parse HEAD 2>/dev/null)

SECONDS := 60
OPS := 20000
SEED := 0
TIMES := 1
JOBS := 6

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1: /p' Makefile

run: setup ## set up and run the agent in the foreground (IMAGES=, DATA=, LISTEN=, ARGS=)
	@umask 022 && mkdir -p '$(or $(IMAGES),$(DEFAULT_IMAGES))'
	@echo "airside: drop image archives into $(or $(IMAGES),$(DEFAULT_IMAGES)) (Ctrl-C stops)"
	@$(BIN)/python -m compileall -q src  # nobody else does it where Python may not write there
	@exec $(BIN)/airside run $(RUN_FLAGS)

test: check ## everything: `make check`, then the whole test suite with real components
	$(BIN)/pytest -n $(JOBS) --dist loadfile tests/component tests/contract tests/system

check: setup-test ## lint, format, spelling, types, layers, documents, sizes, unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports
	PYTHONPATH=scripts $(BIN)/python -m checks
	$(BIN)/pytest -q -n 2 tests/unit

unit: setup-test ## unit tests alone (T=tests/unit/oci or T='words of -k')
	$(BIN)/pytest -q $(if $(wildcard $(firstword $(subst ::, ,$(T)))),'$(T)',-n 2 tests/unit $(if $(T),-k '$(T)'))

fix: setup-test ## mend what a tool can: lint, format, spelling
	$(BIN)/codespell --write-changes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: setup-test ## measure lines and branches: pure rooms by unit tests, all rooms by the whole suite
	@mkdir -p build
	@rm -f .coverage .coverage.*
	$(BIN)/pytest -q -n 2 tests/unit --cov --cov-report= --cov-report=json:build/coverage-unit.json
	$(BIN)/python scripts/coverage_by_room.py --pure build/coverage-unit.json
	TESTS_COVERAGE=1 $(BIN)/pytest -q -n $(JOBS) --dist loadfile tests/component tests/contract tests/system \
	    --cov --cov-append --cov-report= --cov-report=json:build/coverage.json
	$(BIN)/python scripts/coverage_by_room.py build/coverage.json

graph: setup-test ## print the rooms and which imports which (FORMAT=dot: for graphviz)
	@PYTHONPATH=scripts $(BIN)/python -m checks.rooms --format $(or $(FORMAT),text)

check-commits: ## check the form of the commit messages since BASE=main
	@scripts/check-commits.py --since '$(or $(BASE),main)'

bench: setup-test ## measure, and print the ratios
	$(BIN)/python bench/run.py $(ARGS)

stress: setup-test ## many clients at once: OPS=20000 operations on the registry (SEED= one that failed)
	TESTS_OPERATIONS=$(OPS) TESTS_SEED=$(SEED) $(BIN)/pytest -q --timeout 0 tests/system/test_registry_stress.py

torture: setup-test ## every test with all that is random or exhaustive at full size, for an hour
	TESTS_TORTURE=1 $(BIN)/pytest --timeout 0 -n $(JOBS) --dist worksteal tests/unit tests/component tests/contract tests/system

loaded: setup-test ## `make test` while the load is kept at four times the processors (TIMES=1)
	$(BIN)/python scripts/loaded.py --times $(TIMES) $(MAKE) --no-print-directory test

hosted: setup-test ## `make test` on a machine that is somebody's node: agent, containerd, kubelet, umask
	scripts/hosted.sh $(MAKE) --no-print-directory test

fuzz: setup-fuzz ## mutate what the readers are given, each target for SECONDS=60 (TARGETS='tar xz')
	$(BIN)/python -m fuzz --seconds $(SECONDS) $(TARGETS)

screenshots: setup-dist ## take the pictures of the page for the documentation, into build/screenshots
	$(BIN)/pytest -q tests/dist/test_screenshots.py

docs: setup setup-docs ## build the documentation site into build/site; it loads nothing from elsewhere
	PYTHONPATH=src NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs --quiet build --strict

manifests: setup-test ## write the manifests of packaging/kustomize and packaging/k3s from the Helm chart
	$(BIN)/python scripts/manifests.py

chart: setup ## pack the Helm chart into dist/, the same bytes each time
	$(BIN)/python scripts/package_chart.py

wheel: setup $(LIBRARY) ## build the wheel into dist/, the same bytes each time
	@rm -f dist/airside-*.whl
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation -w dist .

frozen: wheel ## build/frozen/ARCH/airside: Airside with its own Python, as it lies in /opt/airside
	PYTHONPATH=packaging $(BIN)/python -m frozen --wheel dist/airside-*.whl --epoch $(EPOCH) $(ARCHS)

packages: frozen ## dist/airside_VERSION_ARCH.deb and the .rpm, with manual pages and completions
	PYTHONPATH=scripts:packaging $(BIN)/python -m packages --epoch $(EPOCH) $(ARCHS)

installer: frozen ## dist/airside-VERSION-ARCH.run, one file that installs itself, and its SBOM
	for arch in $(ARCHS); do \
	    PYTHONPATH=scripts:packaging $(BIN)/python -m installer --frozen build/frozen/$$arch/airside --arch $$arch \
	        --version $(VERSION) --epoch $(EPOCH) --out dist/airside-$(VERSION)-$$arch.run && \
	    cp build/frozen/$$arch/airside/sbom.cdx.json dist/airside-$(VERSION)-$$arch.cdx.json || exit 1; \
	done

image: frozen ## dist/airside-image-VERSION-ARCH.tar: our own OCI image, and one with all platforms
	PYTHONPATH=src:packaging $(BIN)/python -m image --epoch $(EPOCH) --revision '$(REVISION)' \
	    $(foreach arch,$(ARCHS),--frozen $(arch)=build/frozen/$(arch)/airside)

dist: setup ## everything that is shipped, into dist/, with SHA256SUMS, and nothing of another version
	rm -rf dist
	$(MAKE) --no-print-directory installer packages image chart
	cd dist && LC_ALL=C sha256sum -- * >../build/SHA256SUMS && mv ../build/SHA256SUMS .

walkthrough: setup-dist dist ## install, use, break, upgrade and remove it on machines without a network, into build/walkthrough
	$(BIN)/pytest -q tests/dist/test_walkthrough.py

test-dist: setup-dist setup-docs dist ## test what `make dist` built (T=tests/dist/test_frozen.py), then the site, then a part of the suite against it
	$(BIN)/pytest -q -n 2 --dist loadfile $(or $(T),tests/dist --ignore tests/dist/test_site.py)
	$(if $(T),,$(MAKE) --no-print-directory docs)
	$(if $(T),,$(BIN)/pytest -q tests/dist/test_site.py)
	$(if $(T),,$(MAKE) --no-print-directory test-frozen T='$(FROZEN_TESTS)')

test-frozen: setup-test frozen ## run command-line and system tests against the frozen program (T=tests/system)
	rm -rf /var/tmp/airside-frozen-$$PPID && cp -r build/frozen/$$(dpkg --print-architecture)/airside /var/tmp/airside-frozen-$$PPID
	AIRSIDE=/var/tmp/airside-frozen-$$PPID/bin/airside $(BIN)/pytest -q -n 2 --dist loadfile \
	    $(or $(T),tests/system tests/component/test_cli_offline.py); \
	    code=$$?; rm -rf /var/tmp/airside-frozen-$$PPID; exit $$code

lock: ## make the lock files again, with the newest releases that pyproject.toml allows
	scripts/lock.sh

clean: ## remove what was set up or built; images and data stay
	rm -rf $(LIBRARY) frontend/node_modules
	rm -rf .venv .venv-docs build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .fuzz/corpus .fuzz/seeds

setup: .venv/ready
setup-test: .venv/ready-test
setup-dist: setup-test
	scripts/setup-debian.sh dist
setup-fuzz: .venv/ready-fuzz
setup-docs: .venv-docs/ready

.venv/ready: requirements.lock pyproject.toml hatch_build.py $(wildcard src/airside/containerd/proto/*.proto)
	scripts/setup-debian.sh run
	scripts/make-venv.sh
	$(BIN)/python -m pip install --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q src
	@! command -v npm >/dev/null || frontend/fetch.sh || echo 'airside: the page runs without its library'
	@touch $@

.venv/ready-test: .venv/ready requirements-dev.lock scripts/setup-debian.sh
	scripts/setup-debian.sh test
	$(BIN)/python -m pip install --require-hashes -r requirements-dev.lock
	@test -e $(LIBRARY) || frontend/fetch.sh || echo 'airside: the page is tested without its library'
	@touch $@

$(LIBRARY): frontend/package-lock.json frontend/fetch.sh
	frontend/fetch.sh

.venv/ready-fuzz: .venv/ready-test requirements-fuzz.lock
	$(BIN)/python -m pip install --require-hashes -r requirements-fuzz.lock
	@touch $@

.venv-docs/ready: requirements-docs.lock
	scripts/make-venv.sh .venv-docs
	.venv-docs/bin/python -m pip install --require-hashes -r requirements-docs.lock
	@touch $@
