# make demo: train on the built-in songs, separate one, score.   make test: ruff and the tests.
# make docs: the pages in docs/_build/html, with the notebook's outputs.
# make benchmark: one table of all models that can be had here (trains the small recipes first, an hour).
# make test-oldest: the tests with the oldest versions that are promised.
# Variables: PYTHON, the interpreter to make .venv with; SEPKIT_DEMO_SCALE, a fraction that shortens the demo;
# JOBS, processes that share the tests, with a thread each.

PYTHON ?= python3
OLDEST ?= python3.10
BIN := .venv/bin
INSTALLED := .venv/installed
DOCS_INSTALLED := .venv/docs-installed
EPOCHS := $(shell sed -n 's|^  epochs: ||p' recipes/vocals.yaml)
JOBS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
SCALE := $(or $(SEPKIT_DEMO_SCALE),1)
DEMO := runs/demo$(if $(filter-out 1,$(SCALE)),-$(SCALE))

.PHONY: demo test test-all test-oldest lint bench benchmark docs ffmpeg chromium

demo: $(INSTALLED) ffmpeg
	$(BIN)/sepkit-train vocals --run $(DEMO) training.epochs=$$(awk 'BEGIN {n = $(SCALE) * $(EPOCHS); print (n < 1 ? 1 : int(n))}')
	$(BIN)/sepkit-separate "$$($(BIN)/python -c 'from sepkit.datasets.demo import demo_song; print(demo_song())')" --model $(DEMO) --output $(DEMO)/separated --overwrite --report
	$(BIN)/sepkit-evaluate --model $(DEMO) --data demo --output $(DEMO)/scores --report
	@echo "model and curves: $(DEMO)   stems: $(DEMO)/separated   scores: $(DEMO)/scores   to look and listen: report.html below each"

test: lint ffmpeg chromium
	$(PYTEST) -m "not slow"

test-all: lint ffmpeg chromium
	$(PYTEST)

# The oldest versions that setup.cfg promises, in .venv-oldest; OLDEST is the interpreter. Their own warnings are no errors.
test-oldest:
	$(OLDEST) -m venv .venv-oldest
	sed -n 's/^    \([A-Za-z0-9-]*\)>=\([0-9.]*\).*/\1==\2.*/p' setup.cfg > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-oldest/constraints.txt -e . 'pytest>=8'
	.venv-oldest/bin/python -m pytest -m "not slow" -o filterwarnings=default

lint: $(INSTALLED)
	$(BIN)/ruff check .

# The notebook trains for a tenth of its time there; from an unchanged notebook the outputs are kept.
docs: $(DOCS_INSTALLED)
	SEPKIT_DEMO_SCALE=$(or $(SEPKIT_DEMO_SCALE),0.1) $(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html
	@echo "pages: docs/_build/html/index.html"

bench: $(INSTALLED)
	for script in $(filter-out benchmarks/models.py benchmarks/default_model.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

benchmark: $(INSTALLED)
	$(BIN)/python benchmarks/models.py

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

# museval and musdb read with ffmpeg; without it all but their numbers still works.
ffmpeg:
	@command -v ffmpeg > /dev/null || { \
	  run=$$(test "$$(id -u)" = 0 || command -v sudo); \
	  { $$run apt-get update && $$run apt-get install --yes ffmpeg; } > /dev/null 2>&1 \
	  || echo "ffmpeg is missing and could not be installed: install it for museval's numbers"; }

# Reports are tested in a browser; who is not root is left to install it, and those tests are skipped without.
chromium:
	@command -v chromium > /dev/null || test "$$(id -u)" != 0 \
	  || { apt-get update && apt-get install --yes --no-install-recommends chromium; } > /dev/null 2>&1 \
	  || echo "chromium could not be installed: the tests of reports in a browser are skipped"
