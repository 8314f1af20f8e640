# SPDX-License-Identifier: Apache-2.0

PREFIX   ?= /usr/local
FUZZTIME ?= 20s
ROUNDS   ?= 40
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

# Go's own packages for small programs that start often, see scripts/runtime/overlay; `make build OVERLAY=` takes them as they are.
OVERLAY ?= $(CURDIR)/bin/.overlay/overlay.json
# no_grpc: a shim speaks ttrpc alone, and gRPC would cost it half its size and memory.
# -T, and -Ttext-segment below: see docs/performance.md, "Pages of the program".
GOBUILD = CGO_ENABLED=0 go build $(OVERLAY:%=-overlay %) -trimpath -buildvcs=false -tags no_grpc \
	-ldflags '-s -w -T 0x511000 -X main.version=$(VERSION) -X main.revision=$(REVISION)'
# What tests of runc's library are built with: its seccomp, without its CRIU.
TAGS = -tags seccomp,runc_nocriu
# The pod and the gpu shim and the guests' agent have runc's library, whose first steps in a container
# are C, and libseccomp; static all the same, and with musl (scripts/musl/cc). runc_nocriu: CRIU's protocol would
# add 2 MB for what runc's command line does. -Ttext-segment: large folios of the page cache are then not mapped whole.
NATIVEBUILD = cc=$$(scripts/musl/cc) && CC=$$cc CGO_ENABLED=1 go build $(OVERLAY:%=-overlay %) -trimpath -buildvcs=false -tags no_grpc,seccomp,runc_nocriu,netgo,osusergo \
	-ldflags '-s -w -X main.version=$(VERSION) -X main.revision=$(REVISION) -extldflags "-static -Wl,-Ttext-segment=0x510000"'
# berth-gpu has cgo too, and without -z lazy it would not start unless every symbol of NVML were loaded.
GPUBUILD = CGO_ENABLED=1 go build -trimpath -buildvcs=false \
	-ldflags '-s -w -X main.version=$(VERSION) -X main.revision=$(REVISION) -extldflags "-Wl,-z,lazy"'
# go-nvml calls what nvml.h declares deprecated.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations
# Tests that drive real containers mount, unshare and fill /proc: one package at a time.
GOTEST_E2E = go -C test/e2e test -count=1 -p 1
# What conformance and bench compare, with which OCI runtime.
# `make conformance VM=1` has a column of the vm shim, too.
VM ?=
SHIMS = -shim $(CURDIR)/bin/containerd-shim-pod-v2 \
	-control $(CURDIR)/.tools/bin/containerd-shim-runc-v2 -runtime $(CURDIR)/.tools/bin/runc
# What bench compares the first of them with.
GPU = -gpu $(CURDIR)/bin/containerd-shim-gpu-v2
# Where the image goes that guests of the vm shim boot from.
GUEST ?= /var/lib/berth/guest

export PATH := $(CURDIR)/bin:$(CURDIR)/.tools/bin:$(PATH)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup build test test-long guests unit lint fuzz bench soak trace bench-mig bench-vm budget oracle integration conformance compat test-v2 test-gpu guest test-vm generate check demo install clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install Debian packages and build the pinned tools into .tools/bin (root)
	@scripts/setup test

build: ## Build the shims and tools into bin/
	@mkdir -p bin
	$(if $(OVERLAY),@scripts/runtime/overlay "$(OVERLAY)")
	$(GOBUILD) -o bin/ ./cmd/berth ./cmd/containerd-shim-vm-v2
	$(NATIVEBUILD) -o bin/ ./cmd/berth-agent ./cmd/containerd-shim-pod-v2 ./cmd/containerd-shim-gpu-v2
	$(GPUBUILD) -o bin/ ./cmd/berth-gpu

unit: setup ## Run the unit tests with the race detector (root)
	BERTH_RUNC=$(CURDIR)/.tools/bin/runc go test $(TAGS) -race -count=1 ./...

test: setup build lint unit oracle conformance integration guests budget ## Run everything that must pass (root; what CI runs)

test-long: test fuzz ## Run test, then the fuzzers, then all tests several times over
	go test $(TAGS) -race -count=5 ./...
	scripts/runtime/test
	go test ./sandbox/turnstile -args -long
	go test ./cmd/berth-gpu -run 'TestKilled|TestRandom' -timeout 30m -args -long
	go -C test/e2e run ./conformance/cmd/conformance $(SHIMS) -long
	$(GOTEST_E2E) -timeout 20m ./gpu -run TestSliceStorm -args -long
	$(GOTEST_E2E) -count=3 -timeout 40m ./integration # with containerd-shim-runc-v2 as a control
	$(GOTEST_E2E) -timeout 15m ./integration -runtimes io.containerd.pod.v2 -driver command
	$(GOTEST_E2E) -timeout 15m ./integration -runtimes io.containerd.pod.v2 -group node

lint: setup ## Check formatting, go vet, staticcheck and the shell scripts
	scripts/lint/run

fuzz: ## Fuzz every parser for FUZZTIME (20s) each
	scripts/fuzz $(FUZZTIME)

bench: setup build ## Compare speed and memory with containerd-shim-runc-v2, beside every target (root; an hour, ROUNDS=5 minutes)
	@mkdir -p test/bench/results
	go -C test/e2e run ./bench $(SHIMS) $(GPU) -drivers native,command -node-pods 100 -rounds $(ROUNDS) \
		-json $(CURDIR)/test/bench/results/latest.json

bench-vm: setup build ## Measure the vm shim against its goals (root; emulated where KVM does not run guests)
	@scripts/guest/build $(CURDIR)/.tools/guest >/dev/null
	@mkdir -p test/bench/results
	go -C test/e2e run ./bench/vm -shim $(CURDIR)/bin/containerd-shim-vm-v2 -berth $(CURDIR)/bin/berth -guest $(CURDIR)/.tools/guest \
		-json $(CURDIR)/test/bench/results/latest-vm.json

trace: setup build ## Draw where the time of a container's life goes, from a real run, for docs/performance.md (root)
	go -C test/e2e run ./trace -shim $(CURDIR)/bin/containerd-shim-pod-v2 -runtime $(CURDIR)/.tools/bin/runc \
		-svg $(CURDIR)/docs/trace-command.svg
	go -C test/e2e run ./trace -shim $(CURDIR)/bin/containerd-shim-pod-v2 -svg $(CURDIR)/docs/trace-native.svg
	go -C test/e2e run ./trace -shim $(CURDIR)/bin/containerd-shim-pod-v2 -execs 200 -svg $(CURDIR)/docs/trace-exec.svg

soak: setup build ## Fail if the shim grows over 100,000 execs and 1,000 containers (root; an hour)
	go -C test/e2e run ./bench $(SHIMS) -soak-execs 100000 -soak-containers 1000

bench-mig: ## Compare the placement of MIG devices with first fit, and write docs/mig.md
	go run ./gpu/mig/sim

budget: setup build ## Fail if an idle shim's memory or the binary's size is beyond the budget (root)
	go -C test/e2e run ./bench $(SHIMS) $(GPU) -check

integration: setup build ## Drive a private containerd with its client, ctr and crictl (root)
	$(GOTEST_E2E) -timeout 15m ./node/... ./image/... ./cmd/...
	$(GOTEST_E2E) -timeout 15m ./integration -runtimes io.containerd.pod.v2
	$(GOTEST_E2E) -timeout 15m ./gpu

conformance: setup build ## Run the shim test suites against this shim, by runc's library and by runc, and containerd-shim-runc-v2; with VM=1 the vm shim too (root)
	$(if $(VM),@scripts/guest/build $(CURDIR)/.tools/guest >/dev/null)
	go -C test/e2e run ./conformance/cmd/conformance $(SHIMS) $(if $(VM),-vm $(CURDIR)/bin/containerd-shim-vm-v2 -guest $(CURDIR)/.tools/guest)
	go -C test/e2e run ./conformance/cmd/conformance $(SHIMS) -command -stress 0

compat: setup build ## Run one shim under containerd 1.7 to 2.4, and upgrade across them (root; first time 25 minutes)
	scripts/compat/build
	$(GOTEST_E2E) -timeout 20m ./compat/...

oracle: setup ## Compare what is injected with NVIDIA's own library, on fake machines (root; docs/gpu-parity.md)
	go -C test/oracle test -count=1 ./...

test-v2: setup build ## Run the tests on cgroup v2, in an emulated machine (root; Debian's kernel and QEMU)
	@scripts/v2/run
	@scripts/v2/run selinux

test-gpu: ## Run on a machine with an NVIDIA GPU, changing no setting of it (root; without one it says so and fails: error 77)
	@scripts/gpu/test

guest: setup build ## Build the image that guests of the vm shim boot from into GUEST (/var/lib/berth/guest)
	@scripts/guest/build $(GUEST)

guests: setup build ## Boot guests and run a part of test-vm, as CI does (root; without QEMU it says so, and passes unless BERTH_REQUIRE_GUESTS=1)
	@scripts/guest/test quick

test-vm: setup build ## Boot guests, and drive a private containerd whose pods they are (root; emulated where KVM does not run them)
	@scripts/guest/test

generate: ## Run the go:generate directives (protoc: Debian package protobuf-compiler)
	go generate ./...

check: build ## Quick check while working: build, go vet and unit tests, no set-up
	go vet ./...
	go test $(TAGS) ./...

demo: ## Set up, build, and run containers and a pod under a private containerd (root)
	@scripts/demo

install: build ## Copy bin/ to PREFIX/bin (/usr/local)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 bin/* $(DESTDIR)$(PREFIX)/bin/

clean: ## Remove what build made; the tools in .tools stay
	rm -rf bin
