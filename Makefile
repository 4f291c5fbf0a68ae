# Everything a newcomer needs: `make demo` and `make test`, each sufficient by itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PACKAGES := problem theory empirical compare figures cli
OUT ?= out
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help demo test test-slow bench gallery format clean

help:
	@echo "make demo       install into $(VENV), run the default problem and the real data set into $(OUT)/"
	@echo "make test       install, then ruff, pyright and the quick tests"
	@echo "make test-slow  install, then the slow tests"
	@echo "make bench      install, then print the speed ratios"
	@echo "make gallery    install, then draw published results and nonlinear networks into $(OUT)/gallery (an hour)"
	@echo "make format     let ruff format the code"

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/twinmodes compare --replicas 8 --out $(OUT)/default
	$(BIN)/twinmodes compare --data diabetes --out $(OUT)/diabetes
	@echo "The figures are in $(OUT)/default and $(OUT)/diabetes: risk.png, modes.png, vector-field.png"

test: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q -n 2

test-slow: $(VENV)/.developing
	$(BIN)/python -m pytest -q -n 2 -m slow

bench: $(VENV)/.developing
	$(BIN)/python -m benchmarks

# A figure whose published numbers are not met is drawn, and fails the target at the end.
gallery: $(VENV)/.developing
	@failed=; for name in $$($(BIN)/python -c "$$GALLERY"); do \
		$(BIN)/twinmodes figure $$name --out $(OUT)/gallery/$$name.png || failed="$$failed $$name"; \
	done; test -z "$$failed" || { echo "not met or failed:$$failed"; exit 1; }

define GALLERY
from twinmodes.cli.figure import ENTRIES
print(*[name for name, entry in ENTRIES.items() if entry.presets or entry.text.startswith("published")])
endef
export GALLERY

format: $(VENV)/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OUT) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
