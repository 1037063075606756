# What each target does stands beside it; `make help` prints that.
SWIFT ?= swift
JOBS ?= $(shell nproc)
# The product is built with optimisation; tests are built without.
CONFIG ?= release
# Arguments for `swift test`, as in: make test TESTS='--filter StoreTests'
TESTS ?=
# Tests at a time. The default knows no bound, and two thousand at once are late for every deadline on a small machine.
WIDTH ?= $(shell echo $$((4 * $$(nproc))))
# Seconds for each part of the third tier, and one part only, as in: make test-endurance ENDURANCE=600 PART=3
ENDURANCE ?= 60
PART ?=

BINARIES := bin/aegis bin/aegisd bin/aegis-harness bin/aegis-shim
LINT := Tools/aegis-lint
SOURCES := Sources Tests Package.swift $(LINT)/Sources $(LINT)/Tests $(LINT)/Package.swift

.PHONY: all help setup build harness test test-all test-endurance test-guest test-lint test-swift lint format demo bench clean
.DELETE_ON_ERROR:

all: build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install the Debian packages that are missing
	@scripts/setup test

build: ## leave bin/aegis, bin/aegisd, bin/aegis-harness, bin/aegis-shim and bin/skills
	@$(MAKE) --no-print-directory $(BINARIES) bin/skills

harness: bin/aegis-harness ## leave bin/aegis-harness only

# SwiftPM knows what is up to date; make only asks it.
.PHONY: $(BINARIES)
$(BINARIES): bin/%:
	$(SWIFT) build -c $(CONFIG) -j $(JOBS) --product $*
	@mkdir -p bin
	@install -m 755 "$$($(SWIFT) build -c $(CONFIG) --show-bin-path)/$*" bin/.$*.new
	@mv -f bin/.$*.new bin/$*

# The skills that come with Aegis lie beside its programs; what was removed here is removed there.
.PHONY: bin/skills
bin/skills:
	@mkdir -p bin
	@rm -rf bin/.skills.new && cp -r skills bin/.skills.new
	@rm -rf bin/skills && mv bin/.skills.new bin/skills

# The parts follow one another whatever -j says; the product's tests come last.
test: ## set up, build, lint and run every test
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory build
	@$(MAKE) --no-print-directory test-lint lint
	@$(MAKE) --no-print-directory test-swift

test-all: ## make test, and then the third tier, which takes its time
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-endurance
	@$(MAKE) --no-print-directory test-guest

# Damaged input for every parser, daemons that die at every place, days of use, and agents under daemons that are killed; parts are
# counted from 0, the last three are these.
test-endurance: ## the third tier alone: ENDURANCE=seconds PART=number
	AEGIS_ENDURANCE=$(ENDURANCE) AEGIS_ENDURANCE_PART=$(PART) \
		$(SWIFT) test -j $(JOBS) --filter '^Endurance\.|^Acceptance\.SoakTests'

# Where a machine has QEMU: what needs control groups of version 2 alone.
test-guest: ## the built programs on a Debian with systemd and cgroup v2, in QEMU (scripts/setup guest)
	@$(MAKE) --no-print-directory build
	@Tests/Guest/run

test-lint:
	$(SWIFT) test -j $(JOBS) --package-path $(LINT)

# What starts daemons and sandboxes runs after what does not: all at once, a small machine is late for every deadline.
test-swift:
ifeq ($(strip $(TESTS)),)
	$(SWIFT) test -j $(JOBS) --experimental-maximum-parallelization-width $(WIDTH) \
		--skip '^Acceptance\.' --skip '^Endurance\.'
	$(SWIFT) test --skip-build --filter '^Acceptance\.' --skip '^Acceptance\.SoakTests'
else
	$(SWIFT) test -j $(JOBS) $(TESTS)
endif

lint: ## check style and house rules
	@mkdir -p out
	@$(SWIFT) build -q -j $(JOBS) --package-path $(LINT) --product aegis-lint
	@$(SWIFT) package dump-package >out/package.json
	@# Both are run, so that one pass shows everything.
	@failed=0; \
	$(SWIFT) format lint --strict --parallel --recursive --configuration .swift-format $(SOURCES) || failed=1; \
	"$$($(SWIFT) build --package-path $(LINT) --show-bin-path)/aegis-lint" out/package.json Sources Tests || failed=1; \
	exit $$failed

format: ## rewrite all sources in the one style
	$(SWIFT) format --in-place --parallel --recursive --configuration .swift-format $(SOURCES)

demo: ## set up, build and show a real run from start to end
	@scripts/setup
	@$(MAKE) --no-print-directory build
	@scripts/demo

bench: ## set up, build and measure against other tools, side by side
	@scripts/setup bench
	@$(MAKE) --no-print-directory build
	@mkdir -p docs
	@Benchmarks/run --write docs/performance.md

clean: ## remove everything that was built
	rm -rf .build bin out $(LINT)/.build
