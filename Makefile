# A fresh machine needs Python 3.11 or newer and this file, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
SWEEP ?= sweeps/table6.yaml

.PHONY: sweep test slow mutants check format clean

sweep: $(INSTALLED)  ## create .venv, install, run the main job
	$(BIN)/aipo-lab sweep $(SWEEP)

test: $(INSTALLED)  ## create .venv, install, run the tests
	$(BIN)/python -m pytest -n auto --dist loadscope

slow: $(INSTALLED)  ## the long runs that `make test` leaves out
	$(BIN)/python -m pytest -m slow

mutants: $(INSTALLED)  ## small faults put into the code: which does no test notice? ONLY="objectives store" names packages
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[mutants]"
	$(BIN)/python perf/mutants.py $(ONLY)

check: $(INSTALLED)  ## lint, formatting, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The CPU build of torch comes first: the registry's default build brings gigabytes of CUDA. TORCH= installs
# whatever pip takes for this machine, which is what a GPU machine wants.
TORCH ?= torch==2.13.0
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/python -m pip install --quiet "$(TORCH)")
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,laptop,data,lora,deepspeed,benchmarks,perf]"
	touch $@

clean:
	rm -rf $(VENV)
