# Everything from a fresh clone: `make run` for a working gateway, `make test` for the whole suite. Only test-root needs root.
# An install step is skipped while its stamp in .venv is newer than what it installs.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory --no-builtin-rules
# Each worker, and each program that the tests start, would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
WHOLE := GATEWAY_TEST_WHOLE=1 $(BIN)/python -m pytest --durations=25 --durations-min=5
# Makes every test nearly twice as long, and judges nothing: no part of `make test`.
COVERED := --cov=gateway --cov-report=term
# Rooms without a loop, a socket or a clock: their own tests see every line and every branch of them.
PURE := model limits policy http
# Twice as many workers as there are cores: half of its time a worker waits, for a browser, a process or a server.
WORKERS ?= $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) * 2 )))
# Files in their order: by the number of their tests, those of one long test would come last, and one core wait.
SHARED = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
FORMS := $(patsubst requirements/forms/%.txt,$(VENV)/forms/%/.made,$(wildcard requirements/forms/*.txt))
# A wheel or nothing: a package that had to be built here could come without its C extension.
PIP_FLAGS ?= --only-binary :all:
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# The distribution's Python first: its OpenSSL gets the distribution's security updates, and it is built with PGO.
PYTHON ?=
CANDIDATES := $(or $(PYTHON),/usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11)

# Sets $python to the first candidate that will do, or ends with one line that says what is missing.
define choose_python
python=; old=; bare=; \
for candidate in $(CANDIDATES); do \
  version=$$("$$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue; \
  if ! "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
    old="$${old:-$$candidate is $$version}"; \
  elif ! "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then \
    bare="$${bare:-$$candidate}"; \
  else \
    python=$$candidate; break; \
  fi; \
done; \
if [ -z "$$python" ]; then \
  if [ -n "$$bare" ]; then echo "make: $$bare has no venv module; on Debian: apt install python3-venv"; \
  elif [ -n "$$old" ]; then echo "make: Python 3.11 or newer is needed, and $$old; or name one: make PYTHON=..."; \
  else echo "make: no Python runs as $(strip $(CANDIDATES)); 3.11 or newer is needed"; fi >&2; \
  exit 1; \
fi
endef

# Whether .venv is whole: made here, by that Python, of that version.
define venv_is_good
[ -x $(BIN)/python ] && [ -f $(BIN)/pip ] && grep -qF "$(CURDIR)/$(BIN)/" $(BIN)/pip && \
[ "$$($(BIN)/python -c 'import pip, sys; print(sys.base_prefix, sys.version)' 2>/dev/null)" = \
  "$$("$$python" -c 'import sys; print(sys.base_prefix, sys.version)')" ]
endef

.PHONY: help run test pure coverage test-root lint bench soak image docs screenshots schema dist lock clean FORCE

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo '  ARGS="..." goes to the command of run, bench, soak and image, or to pytest; PYTHON=... names another Python'

run: $(VENV)/.demo $(VENV)/.project  ## a working gateway before a stand-in container: gateway demo $(ARGS)
	@$(BIN)/gateway demo $(ARGS)

test: lint $(FORMS)  ## lint, then the suite, its flows on uvloop; with CI set, all of it
	@$(if $(CI),$(MAKE) pure)
	@echo "== pytest"
	@$(if $(CI),$(WHOLE),$(BIN)/python -m pytest) $(SHARED) $(ARGS)

pure: $(VENV)/.dev $(VENV)/.project  ## the tests of the pure rooms, which have to see every branch of them
	@echo "== pytest of the pure rooms, with branch coverage: less than 100 % fails"
	@$(BIN)/python -m pytest -n auto $(PURE:%=tests/%) tests/test_units.py tests/test_errors.py $(PURE:%=--cov=gateway.%) \
	  --cov=gateway.units --cov=gateway.errors --cov-report=term --cov-fail-under=100

coverage: lint $(FORMS)  ## all of the suite, with coverage: flows on both loops, more examples of each property
	@echo "== pytest, all of it"
	@$(WHOLE) $(COVERED) $(SHARED) $(ARGS)

test-root:  ## tests/root, as root: several hosts in network namespaces, the image built for real, ...
	@[ "$$(id -u)" -eq 0 ] || { echo "make: test-root needs root; make test does not" >&2; exit 1; }
	@$(MAKE) $(VENV)/.dev $(VENV)/.project
	@echo "== pytest tests/root, the building of the image beside all else"
	@$(BIN)/python -m pytest tests/root -n 2 --dist loadgroup $(ARGS)

lint: $(VENV)/.dev $(VENV)/.project  ## ruff check, ruff format --check, mypy
	@echo "== ruff check"
	@$(BIN)/ruff check
	@echo "== ruff format --check"
	@$(BIN)/ruff format --check
	@echo "== mypy"
	@$(BIN)/mypy

bench: $(VENV)/.bench $(VENV)/.project  ## the gateway beside nginx, HAProxy, Envoy and Caddy: python -m bench $(ARGS)
	@$(BIN)/python -m bench $(ARGS)

soak: $(VENV)/.demo $(VENV)/.project  ## a quiet tenant beside each attack: make soak ARGS=neighbours
	@$(BIN)/python -m soak $(ARGS)

image:  ## the container image, document-gateway, by docker, podman or buildah $(ARGS)
	@for engine in docker podman buildah; do \
	  command -v $$engine >/dev/null && timeout 10 $$engine info >/dev/null 2>&1 || continue; \
	  format="--format docker"; [ $$engine != docker ] || format=; \
	  exec $$engine build $$format --tag document-gateway $(ARGS) .; \
	done; echo "make: no container engine answers here (tried docker, podman and buildah)" >&2; exit 1

docs: schema  ## the generated files anew, then the proof that the pages name all there is
	@$(BIN)/python -m pytest -q tests/test_docs.py tests/config/test_json_schema.py

screenshots: $(VENV)/.dev $(VENV)/.project  ## the pictures of docs/console.md anew (needs chromium)
	@GATEWAY_SCREENSHOTS=docs $(BIN)/python -m pytest -q tests/admin/test_console.py -k pictures

schema: $(VENV)/.dev $(VENV)/.project  ## config/gateway.schema.json anew
	@$(BIN)/python -m gateway.config.json_schema config/gateway.schema.json

dist: $(VENV)/.dev $(VENV)/.project  ## wheel and sdist in dist/: the same bytes from the same commit
	@rm -rf dist && mkdir dist
	@$(BIN)/python .ci/dist dist

lock:  ## requirements/*.txt anew, with hashes (needs uv)
	@PATH="$(CURDIR)/$(BIN):$$PATH"; command -v uv >/dev/null || { echo "make: lock needs uv on the PATH" >&2; exit 1; }; \
	requirements/lock.sh

clean:  ## removes .venv and what tools left; not .demo
	rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis dist bench/.work
	find gateway tests bench soak -name __pycache__ -type d -exec rm -rf {} +

# Looked at by each run, made anew only when there is a reason; its date is that of the venv's making.
$(VENV)/.made: FORCE
	@$(choose_python); \
	if $(venv_is_good); then [ -f $@ ] || touch $@; exit 0; fi; \
	if [ -e $(VENV) ]; then echo "== $(VENV) was made elsewhere or by another Python: making it anew"; fi; \
	echo "== $(VENV) with $$python ($$("$$python" -c 'import platform; print(platform.python_version())'))"; \
	rm -rf $(VENV) && "$$python" -m venv $(VENV) && touch $@

# Older releases of what FastAPI reads forms with, each beside the others, for the tests that compare them.
$(FORMS): $(VENV)/forms/%/.made: requirements/forms/%.txt $(VENV)/.made
	@echo "== installing $<, every file by its hash"
	@rm -rf $(@D) && $(PIP) install --quiet $(PIP_FLAGS) --require-hashes --target $(@D) -r $< 2>/dev/null || \
	  { echo "make: pip could not install $<: is a package index within reach?" >&2; exit 1; }
	@touch $@

$(VENV)/.demo $(VENV)/.dev $(VENV)/.bench: $(VENV)/.%: requirements/%.txt $(VENV)/.made
	@echo "== installing $<, every file by its hash"
	@$(PIP) install $(PIP_FLAGS) --require-hashes -r $< || \
	  { echo "make: pip could not install $<: is a package index within reach?" >&2; exit 1; }
	@touch $@

# The project itself, by the flit_core that the lock files hold. Order-only: a new lock is no new project.
$(VENV)/.project: pyproject.toml gateway/__init__.py $(VENV)/.made
	@echo "== installing the project"
	@$(PIP) install --quiet --no-deps --no-build-isolation -e . || \
	  { echo "make: pip could not install the project" >&2; exit 1; }
	@touch $@

FORCE:
