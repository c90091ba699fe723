PYTHON ?= python3
BIN := .venv/bin
# More golden cases, and the documents whose usage blocks old scripts follow, where they are there.
export REGARD_GOLDEN ?= $(abspath $(wildcard ../shared/golden))
export REGARD_SEEDS ?= $(abspath $(wildcard ../shared/seeds))

DEMO := --attention none,se,eca,cbam,simam --backbone resnet18 --data digits --epochs 3 --seeds 2 --processes 2 --out runs/demo

.PHONY: setup demo test check test-all coverage lint dist bench catalog

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[vision,compare,export,hosts,keras,dev]"
	touch $@

demo: setup  ## compare attentions on real data; ends with a table and an HTML report
	$(BIN)/regard compare $(DEMO)

test: setup  ## what a change must pass
	$(BIN)/pytest -n 2 -m "not slow"
	KERAS_BACKEND=tensorflow $(BIN)/pytest -n 2 -m "not slow" tests/keras
	KERAS_BACKEND=torch $(BIN)/pytest -n 2 -m "not slow" tests/keras

check: setup  ## one mechanism in seconds: make check KEY=simam
	$(BIN)/pytest -p no:cacheprovider -m "not slow" -k "$(KEY)" tests/test_laws.py tests/test_laws_arguments.py \
		tests/test_laws_precision.py tests/test_laws_torch.py tests/test_golden.py tests/test_cards.py

test-all: setup  ## the slow tests too: all variants compiled and exported, trainings, every backend of Keras
	$(BIN)/pytest -n 2
	KERAS_BACKEND=tensorflow $(BIN)/pytest -n 2 tests/keras
	KERAS_BACKEND=jax $(BIN)/pytest -n 2 tests/keras
	KERAS_BACKEND=torch $(BIN)/pytest -n 2 tests/keras

coverage: setup  ## which lines the fast suite leaves out
	$(BIN)/pytest -n 2 -m "not slow" --cov --cov-report=term

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

dist: setup  ## build wheel and sdist; run the demo from the wheel alone, and the sdist's own tests
	rm -rf dist build
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip install --quiet --constraint constraints.txt "$$(ls $(CURDIR)/dist/*.whl)[torch,vision,compare]"
	cd build && wheel/bin/regard compare $(DEMO)
	tar --extract --gzip --file dist/*.tar.gz --directory build
	cd build/regard-*/ && PYTHONPATH=src REGARD_GOLDEN= REGARD_SEEDS= $(CURDIR)/$(BIN)/pytest -n 2 -m "not slow"

bench: setup  ## ours against other libraries, as ratios
	$(BIN)/python benchmarks/speed.py

catalog: setup  ## rewrite what is made from the cards and the signatures
	$(BIN)/python docs/catalog.py
	$(BIN)/python docs/migrating.py
	$(BIN)/python tests/test_public.py
	$(BIN)/python docs/networks.py
