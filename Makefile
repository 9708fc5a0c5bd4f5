# The whole vocabulary; `make help` lists it. Everything runs from a checkout: what a target needs is made first.
# PYTHON: the Python (3.10 to 3.13) the virtual environment is made of.  BVLC_PYTHON: a Python that imports BVLC's Caffe.

VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
NETS := $(filter-out torchcaffe/%,$(sort $(wildcard */net.py)))
REAL_CAFFE := ../shared/bin/install-real-caffe
WITH_BVLC = BVLC_PYTHON="$${BVLC_PYTHON:-$$(ls $(CURDIR)/.bvlc/python 2>/dev/null)}"

help:  ## this list
	@grep -hE '^[a-z0-9]+:.*##' Makefile | awk -F ':.*## *' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/installed  ## FCN-32s, 16s, 8s in miniature, from nothing to the table and the pictures (minutes, CPU)
	$(PY) shapes/solve.py

test: $(VENV)/installed  ## all tests that need neither data nor a real Caffe
	$(PY) -m pytest

parity: $(VENV)/installed bvlc  ## the engine against a real Caffe 1.0, live: layers, solvers, nets, files
	$(WITH_BVLC) $(PY) tests/parity/run.py

nightly: $(VENV)/installed  ## a step of every experiment at full width on the CPU, with either Caffe (up to an hour, 7 GB)
	FCN_CAFFE=$${FCN_CAFFE:-torch} $(PY) tests/parity/nightly.py

goldens: $(VENV)/installed bvlc  ## record again what a real Caffe answers to the test cases
	$(WITH_BVLC) $(PY) tests/parity/run.py --record

nets: $(VENV)/installed  ## write every prototxt that a net.py emits
	@for net in $(NETS); do echo $$net; FCN_CAFFE=torch $(PY) $$net || exit 1; done

docs: $(VENV)/installed  ## docs/layers.md, the list of layers and parameters
	$(PY) tests/make_layers_doc.py

fuzz: $(VENV)/installed  ## damaged files for every reader: make fuzz MINUTES=10
	$(PY) tests/fuzz.py --minutes $(or $(MINUTES),1)

bench: $(VENV)/installed  ## seconds and memory of the engine beside plain PyTorch and, where there is one, a real Caffe
	$(WITH_BVLC) $(PY) bench/run.py

lint: $(VENV)/installed  ## ruff
	$(PY) -m ruff check .

venv: $(VENV)/installed  ## the virtual environment with the locked dependencies, in .venv

$(VENV)/installed: requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.10 to 3.13 found. Install one (apt-get install python3 python3-venv) or say" \
		"make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu:" \
		"apt-get install python3-venv" >&2; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

python27: $(VENV)/installed  ## packages for the Python 2.7 tests, into .python27 (needs a python2.7)
	@PY27=$$(for p in python2.7 $$HOME/.pyenv/versions/2.7*/bin/python; do $$p -c '' 2>/dev/null && echo $$p && break; done); \
	test -n "$$PY27" || { echo "No python2.7 found" >&2; exit 1; }; \
	$$PY27 -m pip install --quiet --target .python27 'numpy==1.16.6' 'scipy==1.2.3' 'Pillow==6.2.2' \
		'protobuf==3.17.3'

proto: $(VENV)/installed  ## torchcaffe/proto/caffe_pb2.py from caffe.proto
	$(PY) -m pip install --quiet grpcio-tools==1.85.1
	$(PY) -m grpc_tools.protoc -I. --python_out=. torchcaffe/proto/caffe.proto

bvlc:
	@test -n "$$BVLC_PYTHON" || test -x .bvlc/python || test ! -x $(REAL_CAFFE) || $(REAL_CAFFE) .bvlc
	@test -n "$$BVLC_PYTHON" || test -x .bvlc/python || { echo "No real Caffe: say make parity BVLC_PYTHON=/path/to/a/python" \
		"that imports it (docs/real-caffe.md tells how to get one on Debian)" >&2; exit 1; }

clean:  ## what make itself made: environments and caches; no weights, no data
	rm -rf $(VENV) .python27 .pytest_cache .ruff_cache fuzz-failures

.PHONY: help demo test parity nightly goldens nets docs fuzz bench lint venv python27 proto bvlc clean
