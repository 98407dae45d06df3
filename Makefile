# pgtrace: everything a person types. `make help` lists it.
#
#   make demo     build, ingest the real capture of testdata/, show answers
#   make test     every test, the virtual machine with the real module included
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test build static deps deps-vm deps-test lint unit s3-server vm-test torture-kernel vm-selftest notebooks interop fuzz vm-record bench bench-kernel accept kmod clean

ROOT := $(CURDIR)
BIN := target/debug
STATIC_TARGET := x86_64-unknown-linux-gnu
STATIC := target/$(STATIC_TARGET)/debug/pgtrace-capture
VENV := .venv
S3_VENV := .venv-s3
DEMO := target/demo
export PGTRACE_CAPTURE_STATIC := $(ROOT)/$(STATIC)
export PGTRACE_CAPTURE_RELEASE ?= $(ROOT)/target/$(STATIC_TARGET)/release/pgtrace-capture
export PGTRACE_INGEST := $(ROOT)/$(BIN)/pgtrace-ingest
export PGTRACE_SQL := $(ROOT)/$(BIN)/pgtrace-sql
export PGTRACE_S3_SERVER := $(ROOT)/$(S3_VENV)/bin/moto_server

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## the main job on a real capture: ingest it, ask it, see answers
	@bash testdata/demo.sh "$(DEMO)"

# Test builds turn on features of some dependencies that plain builds do not: building the commands the same way
# spares compiling DataFusion twice.
test: ## all tests; needs root for package installation only
	@$(MAKE) --no-print-directory BUILD='cargo test --locked --workspace --no-run' lint unit test-packaging vm-test interop notebooks
	@echo; echo "all tests passed"

deps: ## what building needs: a C compiler (by apt, if missing)
	@bash testdata/install.sh cc:gcc make:make pkg-config:pkg-config

deps-vm: deps ## what the virtual machine's scripts need (QEMU and kernels are fetched into .cache/, not installed)
	@bash testdata/install.sh xz:xz-utils flock:util-linux mkfs.ext4:e2fsprogs

deps-test: deps-vm ## what testing needs besides: Python and a shell linter
	@bash testdata/install.sh python3:python3 'python3 -m venv --help:python3-venv' shellcheck:shellcheck

BUILD ?= cargo build --locked --workspace --bins
build: deps ## the three commands, in target/debug
	$(BUILD)

static: deps ## pgtrace-capture as a static program, for the virtual machine
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked -p pgtrace-capture --target $(STATIC_TARGET)

kmod: deps-vm ## the kernel module for Debian's 6.1 and 6.12 (paths are printed)
	@for v in 6.1 6.12; do bash kmod/vm/fetch.sh $$v && bash kmod/vm/build.sh $$v || exit 2; done

lint: deps-test ## formatting, clippy, licences, one arrow and one DataFusion, shell scripts
	cargo fmt --all --check
	cargo fmt --manifest-path ingest/fuzz/Cargo.toml --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
	@command -v cargo-deny >/dev/null || cargo install --locked --debug --no-default-features cargo-deny
	cargo deny check bans licenses sources
	@for c in arrow parquet datafusion object_store; do n=$$(grep -c "^name = \"$$c\"$$" Cargo.lock); \
		[ "$$n" = 1 ] || { echo "Cargo.lock holds $$n versions of $$c, expected 1" >&2; exit 1; }; done
	shellcheck -x -P SCRIPTDIR .ci/run ingest/fuzz/*.sh testdata/*.sh kmod/vm/*.sh packaging/*.sh bench/*.sh

# Property tests draw the same cases each time here, so that what passes once passes again; `make fuzz` draws fresh ones.
export PROPTEST_RNG_SEED ?= 20051124

unit: build s3-server ## cargo tests of the four crates
	cargo test --locked --workspace

s3-server: deps-test $(S3_VENV)/stamp ## the S3-compatible server that tests talk to

$(S3_VENV)/stamp: ingest/tests/s3-requirements.txt
	python3 -m venv $(S3_VENV)
	$(S3_VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

vm-test: build static deps-test ## the real module in real kernels, against known reference strings
	@bash kmod/vm/test.sh

# 15 minutes of building a kernel the first time, then an hour or two.
torture-kernel: deps-test ## what must not hurt, tried for long, and on a kernel that watches itself (KASAN, lockdep, kmemleak ..)
	@bash kmod/vm/torture.sh

vm-selftest: deps-vm ## the virtual machine's own scripts
	@bash kmod/vm/selftest.sh

$(VENV)/stamp: notebooks/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(DEMO)/_pgtrace: build
	@bash testdata/demo.sh "$(DEMO)" >/dev/null

interop: deps-test $(VENV)/stamp $(DEMO)/_pgtrace ## DuckDB, pyarrow and Delta Lake read our Parquet: same rows, same types, same answers
	$(VENV)/bin/python notebooks/test_interop.py $(DEMO)
	$(VENV)/bin/python notebooks/test_exports.py $(DEMO)

notebooks: deps-test $(VENV)/stamp $(DEMO)/_pgtrace ## execute the notebooks on the demo's dataset
	$(VENV)/bin/python notebooks/run.py $(DEMO)

# make fuzz [FUZZ_SECONDS=20] [FUZZ_KEEP=1]: 20 s a target; FUZZ_KEEP=1 makes the kept corpus anew from what was found.
fuzz: deps ## every decoder of untrusted bytes under libFuzzer, with the pinned compiler: FUZZ_SECONDS a target
	@bash testdata/install.sh c++:g++
	@bash ingest/fuzz/run.sh

# make vm-record CMD='sort /usr/share/dict/words' OUT=my-trace [KERNEL=6.12] [LEVEL=full] [CLEAN=100ms]
vm-record: ## record any program: CMD='...' OUT=dir, in the virtual machine
	@[ -n "$$CMD" ] && [ -n "$$OUT" ] || { echo "usage: make vm-record CMD='program args' OUT=dir [KERNEL=6.1|6.12] [LEVEL=light|rich|full] [CLEAN=100ms] [CPUS=2]" >&2; exit 2; }
	@$(MAKE) --no-print-directory -s static deps-vm
	@bash kmod/vm/record.sh --out "$$OUT" $(if $(KERNEL),--kernel $(KERNEL)) $(if $(LEVEL),--level $(LEVEL)) $(if $(CLEAN),--clean $(CLEAN)) $(if $(CPUS),--cpus $(CPUS)) sh -c "$$CMD"

export CMD OUT

bench: $(VENV)/stamp $(DEMO)/_pgtrace ## figures of bench/README.md
	@bash bench/run.sh

# make bench-kernel [KERNEL=6.12]; with the Python of `make notebooks` it draws the chart, too
bench-kernel: deps-vm ## what tracing costs, in instructions, beside ftrace and perf: target/bench/kernel.json
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release -p pgtrace-capture --target $(STATIC_TARGET)
	@bash testdata/install.sh python3:python3
	@PYTHON=$(firstword $(wildcard $(VENV)/bin/python) python3) bash kmod/vm/bench.sh $(KERNEL)

# As packages install things: make install [PREFIX=/usr/local] [DESTDIR=] [PROFILE=release]. The module: make -C kmod install.
PREFIX ?= /usr/local
PROFILE ?= release
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BUILT = $(TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
HELP_FILES = $(TARGET_DIR)/help-files
COMMANDS := pgtrace-capture pgtrace-ingest pgtrace-sql
SHARE = $(DESTDIR)$(PREFIX)/share
install: ## the three commands, man pages, completions, systemd unit: PREFIX, DESTDIR
	[ -n "$(NO_BUILD)" ] || cargo build --locked --workspace --bins --profile $(PROFILE)
	rm -rf $(HELP_FILES)
	for c in $(COMMANDS); do $(BUILT)/$$c --help-files $(HELP_FILES) || exit 2; done
	install -d $(DESTDIR)$(PREFIX)/bin $(SHARE)/man/man1 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions \
		$(SHARE)/fish/vendor_completions.d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSCONFDIR)/default
	install -m 755 $(COMMANDS:%=$(BUILT)/%) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(COMMANDS:%=$(HELP_FILES)/man1/%.1) $(SHARE)/man/man1
	install -m 644 $(COMMANDS:%=$(HELP_FILES)/bash/%) $(SHARE)/bash-completion/completions
	install -m 644 $(COMMANDS:%=$(HELP_FILES)/zsh/_%) $(SHARE)/zsh/site-functions
	install -m 644 $(COMMANDS:%=$(HELP_FILES)/fish/%.fish) $(SHARE)/fish/vendor_completions.d
	sed 's,@BINDIR@,$(PREFIX)/bin,' packaging/pgtrace.service >$(DESTDIR)$(UNITDIR)/pgtrace.service
	chmod 644 $(DESTDIR)$(UNITDIR)/pgtrace.service
	@# Whoever has changed the options keeps them.
	[ -e $(DESTDIR)$(SYSCONFDIR)/default/pgtrace ] || \
		install -m 644 packaging/pgtrace.default $(DESTDIR)$(SYSCONFDIR)/default/pgtrace

test-packaging: build deps-vm ## man pages, completions, make install, the unit, DKMS: into a temporary root
	@bash kmod/vm/fetch.sh # DKMS builds the module for these kernels
	@bash packaging/test.sh

accept: ## rewrite the expected output of the SQL views' worked examples, then look at git diff
	PGTRACE_ACCEPT=1 cargo test -p pgtrace-sql --test slt

clean: ## what building made (the cache of the virtual machine stays: rm -r .cache)
	rm -rf target $(VENV) $(S3_VENV)
