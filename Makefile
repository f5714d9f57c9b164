# One command for each chore. Only Python (3.11 or later), make and a package index are needed; Node.js with npm for the
# page that the service shows, which is left out where there is none.
#   .venv      the core install, what a user gets: demo, test-core
#   .venv-all  every extra, test and lint tools: test, lint, format, wheel, bench
#   .venv-lowest  the core, serve and postgres in the lowest versions that pyproject.toml allows: test-lowest
# Each is made once and made again when pyproject.toml or constraints.txt changes.

PYTHON ?= python3
ARGS ?=
# a process for each core and two more, a file's tests in one of them; and one thread each, or they would fight for cores
PARALLEL ?= -n auto --dist loadfile
test test-fast test-core test-lowest coverage: export OMP_NUM_THREADS ?= 1
# compiled modules are kept, whatever the environment says: the tests start dozens of interpreters
test test-fast test-core test-lowest coverage: export PYTHONDONTWRITEBYTECODE =

NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "e2vsearch needs Python 3.11 or later: make PYTHON=python3.11")'

# where a virtual environment has its programs
BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)

CORE := .venv/.core-installed
CORE_TEST := .venv/.test-installed
ALL := .venv-all/.installed
LOWEST := .venv-lowest/.installed
PAGE := e2vsearch/server/static/index.html

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-core test-lowest coverage lint format docs page screenshots wheel dist release sbom bench faults clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 picks the interpreter, ARGS='-k audio -x' goes on to pytest, PARALLEL= keeps it in one process"

demo: $(CORE) ## ingest the sample calls and find those like an angry one, in two minutes from nothing
	@rm -rf demo
	.venv/$(BIN)/e2vsearch demo demo

test: $(ALL) ## run every test, with all extras and a real Postgres
	-@$(MAKE) --no-print-directory page  # without the page its tests skip, with the reason
	.venv-all/bin/python -m pytest $(PARALLEL) $(ARGS)

test-fast: $(ALL) ## run what takes 90 seconds on two cores: no Postgres, no torch, no browser, nothing slow
	.venv-all/bin/python -m pytest $(PARALLEL) -m "not slow and not postgres and not torch and not browser" $(ARGS)

test-core: $(CORE_TEST) ## run the tests with the core install alone; what needs an extra skips with its reason
	.venv/$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-lowest: $(LOWEST) ## run the tests with the lowest versions allowed of what the core, serve and postgres need
	.venv-lowest/bin/python -m pytest $(PARALLEL) -W ignore::DeprecationWarning $(ARGS)  # old libraries on newer ones

coverage: $(ALL) ## run every test and say which lines none of them reaches
	.venv-all/bin/python -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered $(ARGS)

lint: $(ALL) ## ruff, mypy --strict, the import contracts, and zizmor for the workflows
	.venv-all/bin/ruff check
	.venv-all/bin/ruff format --check
	.venv-all/bin/mypy --strict
	.venv-all/bin/lint-imports
	.venv-all/bin/zizmor --quiet --offline --pedantic .github

format: $(ALL) ## put the code in shape
	.venv-all/bin/ruff check --fix
	.venv-all/bin/ruff format

docs: $(ALL) ## build the documentation's site in build/docs; a link that leads nowhere is an error
	.venv-all/bin/python docs/build_site.py

page: $(PAGE) ## build the page that the service shows (page/, with npm)

screenshots: $(ALL) $(PAGE) ## take the documents' pictures of the page (docs/images, with a Chromium)
	.venv-all/bin/python docs/screenshots.py

wheel: $(ALL) $(PAGE) sbom ## build dist/*.whl, with the page and its bill of materials
	.venv-all/bin/python -m hatchling build -t wheel

dist: $(ALL) $(PAGE) sbom ## build what is released: the wheel, and the source distribution
	.venv-all/bin/python -m hatchling build -t sdist -t wheel

release: export TAG ?=
release: dist ## build what is released as TAG=v0.1.0, see that this is the version here, and try the wheel alone
	@test "$$TAG" = "v$$(.venv-all/bin/python -m hatchling version)" || { echo "the tag '$$TAG' is not the version of this checkout"; exit 1; }
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet dist/*.whl
	cd "$$(mktemp -d)" && "$(CURDIR)/.venv-wheel/bin/e2vsearch" demo

sbom: ## write the bill of materials that the wheel holds, deploy/e2vsearch.cdx.json
	$(PYTHON) deploy/sbom.py

# a benchmark that exits with 77 cannot run here, and has said why
bench: $(ALL) ## a quick run of every benchmark, each printing its table
	@failed=; for script in benchmarks/[!_]*.py; do echo "== $$script"; \
		.venv-all/bin/python "$$script" --quick || [ $$? -eq 77 ] || failed="$$failed $$script"; done; \
		if [ -n "$$failed" ]; then echo "did not finish:$$failed"; exit 1; fi

faults: $(ALL) ## kill, tear, fill up, flip and feed hostile files for some hours, and count what is lost
	.venv-all/bin/python benchmarks/faults.py $(ARGS)
	.venv-all/bin/python benchmarks/hostile.py --files 2000

clean: ## remove what the commands above made; collections in index/ stay
	rm -rf .venv .venv-all .venv-lowest .venv-wheel demo dist build page/node_modules e2vsearch/server/static
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(CORE): pyproject.toml
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv .venv
	.venv/$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# --group needs pip 25.1, newer than what Python 3.11 and 3.12 bring
$(CORE_TEST): $(CORE)
	.venv/$(BIN)/python -m pip install --quiet 'pip>=25.1'
	.venv/$(BIN)/python -m pip install --quiet --group test
	@touch $@

$(ALL): pyproject.toml constraints.txt
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv .venv-all
	.venv-all/bin/python -m pip install --quiet 'pip>=25.1'
	.venv-all/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group test --group test-all --group lint --group docs
	@touch $@

# uv knows how to resolve to the lowest versions, and pip does not; what runs the tests is as new as elsewhere
$(LOWEST): pyproject.toml
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv --clear .venv-lowest  # uv lowers nothing that is there
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest --resolution lowest-direct --editable '.[serve,postgres]'
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest --group test httpx httpx2
	@touch $@

# package-lock.json says what is installed; without npm there is no page, and everything else works
$(PAGE): page/package.json page/package-lock.json page/tsconfig.json page/vite.config.js page/index.html $(wildcard page/src/* page/src/*/*)
	@if ! command -v npm >/dev/null; then echo "the page is not built: it needs Node.js with npm"; \
	elif ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'; \
	then echo "the page is not built: it needs Node.js 20.19 or later, this is $$(node --version)"; \
	else cd page && npm ci --silent && npm run --silent build; fi
