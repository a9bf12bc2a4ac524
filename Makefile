# Two commands set everything up on a fresh Debian 12 (root; make, git, ca-certificates):
#   make why    the offline half, and its answer for the bundled snapshot of twice-through-conntrack
#   make test   everything that the tests need, then the whole suite

PYTHON  ?= /usr/bin/python3
VENV    := .venv
BIN     := $(VENV)/bin
SNAPSHOT := twice-through-conntrack
FLOW    := icmp 10.10.1.1 -> 8.8.8.8 at client
N       ?= 100
APT     := DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q -y --no-install-recommends
PY_APT  := python3 python3-venv python3-pip
# what the tests drive: the kernel's own tools and network namespaces; bcc for the probes, the headers and the compiler that
# NetfilterQueue is built with; what opens our captures and pages; the shells and viewers that completion and manual are for
TEST_APT := iproute2 iptables nftables ipset conntrack procps tcpdump iputils-ping kmod \
            python3-bpfcc bpftool libnetfilter-queue-dev libnfnetlink-dev gcc libc6-dev python3-dev \
            tshark chromium chromium-driver fonts-dejavu-core graphviz mandoc man-db zsh fish less util-linux

.PHONY: why test setup-test lint typecheck format docs fuzz-kernel bench clean

why: $(VENV)/.offline
	@$(BIN)/nattrace why '$(FLOW)' --snapshot $(SNAPSHOT)

test: $(VENV)/.test
	$(BIN)/python -m pytest --nbmake tests notebooks

setup-test: $(VENV)/.test

# system packages are asked for only when something is missing
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get -q update && $(APT) install $(PY_APT); }
	@$(PYTHON) -m venv --system-site-packages $(VENV)

$(VENV)/.offline: $(VENV)/bin/pip pyproject.toml
	@$(BIN)/pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.test: $(VENV)/.offline pyproject.toml
	@missing=$$(for p in $(TEST_APT); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	  if [ -n "$$missing" ]; then apt-get -q update && $(APT) install $$missing; fi
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[test,lint]'
	@touch $@

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(VENV)/.test
	cd .package && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p nattrace

docs: $(VENV)/.test
	$(BIN)/python docs/generate.py

fuzz-kernel: $(VENV)/.test
	$(BIN)/python tests/differential/fuzz.py $(N) $(SEED)

bench: $(VENV)/.test
	$(BIN)/python tests/bench/bench_parse.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
