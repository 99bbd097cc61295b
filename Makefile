# Every target creates .venv by itself and reuses it; PYTHON chooses the interpreter (3.11 to 3.13; 3.14 is untested).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools
SITE := $(VENV)/.site

.PHONY: demo test thorough tutorial formats recommenders check package shop-wheel docs bench findings mutants clean

demo: $(STAMP)
	$(BIN)/rimsim demo

# A file of tests stays on one worker: its fixtures are made once, and Ray is started by one process.
test: $(TOOLS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

# Long oracles: other processors, workers that die, made-up shops, pages that take minutes.
thorough: $(TOOLS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -m thorough

# Tests that read exports with the packages they are written for. They have their own environment, since these packages
# need an older Gymnasium.
formats:
	test -x build/formats/bin/python || $(PYTHON) -m venv build/formats
	build/formats/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[formats]" pytest hypothesis
	OMP_NUM_THREADS=1 build/formats/bin/python -m pytest -q tests/scenarios/kinds/test_export.py tests/scenarios/kinds/test_experiments.py \
		"tests/docs/test_documentation.py::test_the_python_of_a_page_runs[experiments]" \
		"tests/docs/test_documentation.py::test_the_python_of_a_page_runs[exports]"

# Tests of other packages' recommenders as models. They have their own environment, since LensKit needs an older pandas.
recommenders:
	test -x build/recommenders/bin/python || $(PYTHON) -m venv build/recommenders
	build/recommenders/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[lenskit,mf]" pytest hypothesis scikit-learn
	OMP_NUM_THREADS=1 build/recommenders/bin/python -m pytest -q tests/intensity/test_adapters.py tests/docs/test_documentation.py -k "lenskit or recommender"

# The tutorial, followed literally: its commands and their output.
tutorial: $(TOOLS)
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python tools/follow_tutorial.py

check: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python .ci/house.py
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/repo-review --show=err .
	$(BIN)/towncrier build --draft --version next

# sdist and wheel in dist, checked, and the wheel installed in an empty environment, from which a small market is run
# outside of this folder: what a user gets who has no clone. The wheel is built from the sdist, which so is whole.
package: $(SITE)
	rm -rf dist build/empty
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python -m venv build/empty
	build/empty/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd build/empty && bin/python -I -c "import importlib.resources as r, rimsim; assert (r.files(rimsim) / 'py.typed').is_file()"
	cd build/empty && bin/rimsim compare --agents relevance,rim-feedback --rounds 1 --seeds 1 --workers 1 --set arrivals.per_round=50 \
		--set data.min_item_events=120 --set platform.model=popularity --out run && bin/rimsim report run --html
	rm -rf build/empty

# A wheel that holds the log of the shop alone, not MovieLens, whose terms forbid commercial use: in dist/shop.
shop-wheel: $(SITE)
	$(BIN)/python tools/shop_wheel.py dist/shop
	$(BIN)/twine check --strict dist/shop/*
	$(BIN)/check-wheel-contents dist/shop/*.whl

# The site, in build/docs/index.html: the pages of docs/, the API, and the examples, which are run. A warning, such as a link
# that leads nowhere, is an error, and so is a subject of docs/search.yaml that does not find its page first. Pages are made
# anew, so that a link to a page that is gone is seen.
docs: $(SITE)
	rm -rf build/docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	$(BIN)/python tools/site_search.py
	@echo "open build/docs/index.html"

# What README and pages quote, measured again: many CPU hours. `python benchmarks/run.py PAGE` measures one page of the log.
bench: $(TOOLS)
	$(BIN)/python benchmarks/run.py

# Signs of what the README claims, from the runs behind them: some CPU hours, less what runs/findings holds already.
findings: $(TOOLS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m findings tests/tools/test_scripts.py

mutants: $(TOOLS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[mutants]"
	$(BIN)/python tools/mutants.py

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 14) else "rimsim needs Python 3.11 to 3.13 (3.14 is untested); this is %s. Choose one: make PYTHON=python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

# The demo does without what tests and checks need.
$(STAMP): pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV): 57 packages, among them PyTorch; 2.1 GB, and more where PyTorch comes with CUDA; minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(TOOLS): pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV): about 180 packages for tests and checks; 2.3 GB, and more where PyTorch comes with CUDA; minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,check]"
	touch $(STAMP) $@

# What builds the site and the wheel.
$(SITE): pyproject.toml | $(TOOLS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs,package]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
