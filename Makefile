# labd: `make demo` shows it, `make test` tests it, `make help` lists the rest. Each sets up .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
STAMP := $(VENV)/.installed

.PHONY: demo help test lint typecheck format docs bench firmware check-firmware wheel requirements clean

demo: $(STAMP)  ## Run three jobs on two emulated stations (the default target)
	@$(RUN)labd demo

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' $(MAKEFILE_LIST) | \
	    while IFS='|' read -r target text; do printf '  %-16s%s\n' "$$target" "$$text"; done

# Most tests wait for a board or a deadline rather than for the processor: two per processor.
JOBS ?= $(shell echo $$((2 * $$(nproc))))

# The tests start hundreds of Python processes: each would compile labd again without its caches.
test: export PYTHONDONTWRITEBYTECODE =
test: $(STAMP)  ## Run the tests; TESTS=tests/unit for a part of them
	@$(RUN)python -m pytest -n $(JOBS) --maxschedchunk 1 $(TESTS)

# What codespell reads; [tool.codespell] in pyproject.toml says which words it refuses.
TEXTS := $(wildcard *.md) Makefile stations.toml .ci .github benchmarks datasets docs drivers firmware labd tests

lint: $(STAMP) typecheck  ## Check style, format, layers, types and retired words
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)lint-imports
	$(RUN)codespell $(TEXTS)

typecheck: $(STAMP)  ## Check types
	$(RUN)pyright

format: $(STAMP)  ## Format the code and fix what ruff can fix
	$(RUN)ruff format .
	$(RUN)ruff check --fix .

docs: $(STAMP)  ## Build the documentation into build/docs
	$(RUN)sphinx-build -q -W -n docs build/docs

bench: $(STAMP)  ## Measure speed beside plain Python references
	@for file in benchmarks/*.py; do $(RUN)python $$file || exit 1; done

# With MODEL=path.tflite NAME=kws01 it builds a model's images into build/firmware instead; options
# of firmware/tools/build.py go into FLAGS, for example FLAGS="--input uint8".
firmware: $(STAMP)  ## Rebuild the images of digits01
ifdef MODEL
	@$(RUN)python firmware/tools/build.py --model "$(MODEL)" --name "$(NAME)" $(FLAGS)
else
	@$(RUN)python firmware/tools/build.py $(FLAGS)
endif

check-firmware: $(STAMP)  ## Check that training and build give the committed bytes
	@$(RUN)python firmware/tools/train_digits01.py --check
	@$(RUN)python firmware/tools/build.py --check

wheel: $(STAMP)  ## Build wheel and sdist into dist
	@$(RUN)hatchling build

requirements:  ## Rewrite requirements.txt from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras \
	    --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements.txt

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "labd needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "setting up $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN)pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(RUN)pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:  ## Remove everything that is made
	rm -rf $(VENV) build dist var .pytest_cache .ruff_cache .hypothesis
