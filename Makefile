# labd: `make demo` shows it, `make test` tests it; both set everything up by themselves.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
STAMP := $(VENV)/.installed

.PHONY: demo test lint bench firmware check-firmware requirements clean

demo: $(STAMP)
	@$(RUN)labd demo

# Most tests wait for a board or a deadline rather than for the machine: two at a time.
JOBS ?= 2

test: $(STAMP)
	@$(RUN)python -m pytest -n $(JOBS) $(TESTS)

lint: $(STAMP)
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)lint-imports
	$(RUN)pyright

bench: $(STAMP)
	@for file in benchmarks/*.py; do $(RUN)python $$file || exit 1; done

# make firmware                                  rebuilds the demo's images
# make firmware MODEL=path.tflite NAME=kws01     builds a model's images into build/firmware
firmware: $(STAMP)
ifdef MODEL
	@$(RUN)python firmware/tools/build.py --model $(MODEL) --name $(NAME) $(FLAGS)
else
	@$(RUN)python firmware/tools/build.py $(FLAGS)
endif

check-firmware: $(STAMP)
	@$(RUN)python firmware/tools/train_digits01.py --check
	@$(RUN)python firmware/tools/build.py --check

# Rewrites the pinned, hashed requirements from pyproject.toml (needs uv).
requirements:
	uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras \
	    --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements.txt

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "labd needs Python 3.11 or newer; say make PYTHON=python3.11")'
	@echo "setting up $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN)pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(RUN)pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV) build var .pytest_cache .ruff_cache .hypothesis
