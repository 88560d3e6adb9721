# make demo   from a fresh clone to a verified, measured ONNX file
# make test   the tests, with their own set-up
# make check  what CI runs: linter, type checker, tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo

.PHONY: demo test lint types docs check train golden zoo fuzz bench-graphs benchmarks parity bench-evaluation bench-gate bench-gpu bench-quantized embedding machine soak trt-check clean
.DELETE_ON_ERROR:

$(VENV)/demo.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,digits]'
	touch $@

$(VENV)/dev.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/demo.done
	@mkdir -p $(DEMO)
	$(BIN)/cnnport export lenet5 -o $(DEMO)/lenet5.onnx --overwrite
	$(BIN)/cnnport verify $(DEMO)/lenet5.onnx
	$(BIN)/cnnport run $(DEMO)/lenet5.onnx examples/digits/*.png --top 1
	$(BIN)/cnnport export shufflenet_v2 -o $(DEMO)/shufflenet_v2.onnx --overwrite
	$(BIN)/cnnport verify $(DEMO)/shufflenet_v2.onnx
	$(BIN)/cnnport bench $(DEMO)/lenet5.onnx $(DEMO)/shufflenet_v2.onnx

# A process for each core, and so one thread in each; files stay together, for what they share is made once.
test: $(VENV)/dev.done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers cannot follow the mapping of the four folders in place, so what ships is checked.
types: $(VENV)/dev.done
	rm -rf build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/types .
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p cnnport

# The pages of docs/ and the Python functions as a site in build/site; every warning is an error.
docs: $(VENV)/dev.done
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/site

check: lint types docs test

train: $(VENV)/dev.done
	$(BIN)/python examples/train_digits.py --jobs 2

# Every definition against tests/data/golden_outputs.json, of which the tests check the cheap part; an hour or more.
golden: $(VENV)/dev.done
	$(BIN)/python tests/golden_outputs.py

# Hours on two cores; goes on where it stopped, and leaves its result in docs/.
zoo: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.zoo docs

# An hour or so on two cores: random networks, and the onnx package's own cases, through every pass.
fuzz: $(VENV)/dev.done
	$(BIN)/python tests/fuzz_graphs.py --cases 10000 --seed 1 --write bench/results/fuzz.json
	$(BIN)/python tests/fuzz_graphs.py --backend --count-all

# Hours on two cores, and a quiet machine; goes on where it stopped, and leaves its result in docs/ and bench/results/.
bench-graphs: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.graphs

# Hours: trained networks and representatives, every runtime and precision against PyTorch, which docs/parity.md shows.
parity: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.parity docs

# Likewise: what evaluating 10,000 pictures costs beside decoding and running them, and that a killed run comes out the same.
bench-evaluation: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.evaluation

# Half an hour on a quiet machine: how often the regression gate errs, with and without a planted slowdown.
bench-gate: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.gate

# Minutes: the same pictures through every kind of package, which docs/packages.md shows. Needs Node.js, npm and Chromium.
embedding: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.embedding

# The machine's peaks beside public tools', where these are installed; docs/machine.md has both.
machine: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.machine

# Likewise: every way to run a network, side by side, which docs/benchmarks.md shows.
benchmarks: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.benchmarks

# Likewise: accuracy of the trained networks at every precision, and int8 against float32 and others' int8.
bench-quantized: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.quantized docs
	$(BIN)/python -m cnnport.measuring.studies.calibration_cost

# On a machine with an NVIDIA GPU: conformance, parity and latency of every runtime on it.
bench-gpu: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.gpu --out bench/results/gpu.json --files build/gpu --export

# A thousand sessions opened, run and closed; the resident set must not grow.
soak: $(VENV)/dev.done
	@mkdir -p build
	$(BIN)/python tests/soak_runtimes.py --cycles 1000 --runtime torch-cpu --runtime ort-cpu --runtime openvino \
		> build/soak.json
	mv build/soak.json bench/results/soak.json

# Whether TensorRT-RTX builds the ImageNet-size networks of the zoo; needs no GPU; hours, goes on where it stopped.
trt-check: $(VENV)/dev.done
	$(BIN)/python -m cnnport.measuring.studies.trt_check docs
	$(BIN)/python -m cnnport.measuring.studies.trt_check docs --precision fp16 --precision int8

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
