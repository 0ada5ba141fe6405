# banger. `make` alone lists the targets; each installs what it needs first.

# Go comes from here when scripts/setup had to get one, else from PATH. Debian
# keeps e2fsck and others where an ordinary user's PATH does not lead.
HOME ?= $(shell getent passwd "$$(id -u)" | cut -d: -f6)
XDG_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
export HOME
export PATH := $(XDG_CACHE)/banger-build/go/bin:$(PATH):/usr/sbin:/sbin

VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)
AGENT   := internal/guest/embed/banger-vsock-agent

# A test that needs a tool which is missing skips; here it fails. Without root
# the few that need it still skip, with the reason.
BANGER_REQUIRE ?= $(if $(filter 0,$(shell id -u)),all,banger,goroot,e2fsck,debugfs,mke2fs,dumpe2fs,resize2fs,umoci,buildah,skopeo,registry,busybox,kmod,xz,bzip2,qemu,kernel,apt)
# A /dev/kvm that opens proves nothing: tests run on QEMU's software emulation.
BANGER_ACCEL ?= tcg
export BANGER_REQUIRE BANGER_ACCEL

FUZZTIME ?= 30s
FUZZ     ?= .

.PHONY: help build race test test-long demo docs lint fuzz bench bench-go clean vet

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 - /p' Makefile | awk -F' - ' '{ printf "%-18s %s\n", $$1, $$2 }'

build: ## bin/banger: one static binary with the guest agent inside
	@scripts/setup build
	@$(MAKE) --no-print-directory bin/banger

# go build knows best what is out of date; it does nothing when nothing is.
.PHONY: bin/banger
bin/banger: $(AGENT)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/banger

# No build ID and no version: the same sources give the same agent, and so the
# same disks. That also hides from go build whether it is up to date.
$(AGENT): go.mod go.sum $(shell find cmd/banger-vsock-agent internal -name '*.go' ! -name '*_test.go' 2>/dev/null)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o $@ ./cmd/banger-vsock-agent

test: ## everything, with real boots; at most 12 minutes on two cores
	@scripts/setup test
	@$(MAKE) --no-print-directory bin/banger vet
	go test -count=1 -timeout 12m ./...
	@$(MAKE) --no-print-directory race
	@$(MAKE) --no-print-directory fuzz FUZZ=./ext4 FUZZTIME=10s

race: ## pulls that share and fight for blobs, under the race detector
	CGO_ENABLED=1 go test -race -count=1 -timeout 6m -run '^Test(Many|One|Parts|Two|Concurrent|Trim|Mirror|Same)' ./internal/oci ./internal/image

test-long: ## test, and the campaigns that take longer
	@scripts/setup test
	@$(MAKE) --no-print-directory bin/banger vet
	BANGER_LONG=1 go test -count=1 -timeout 2h ./...

demo: ## make a Debian image, boot it, look around inside; under 4 minutes
	@scripts/setup demo
	@$(MAKE) --no-print-directory bin/banger
	@scripts/demo

vet:
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt -w these: $$unformatted" >&2; exit 1; }
	go vet ./...

lint: ## golangci-lint of the version in tools.mod; its first build takes minutes
	@scripts/setup build
	go tool -modfile=tools.mod golangci-lint run

docs: ## docs/cli.md, api.md and conformance.md, from the commands, the API and the tests
	@scripts/setup build
	go generate ./cmd/banger ./internal/daemon ./rootfs

# Go makes a large input that it likes smaller for a minute, in which it tries
# nothing new; ten attempts are enough.
fuzz: ## every fuzz target below FUZZ (all) for FUZZTIME (30s) each
	@scripts/setup build
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' $(FUZZ)); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "$$(dirname $$file) $$name"; \
			go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$(dirname $$file); \
		done; \
	done

bench: ## how fast, beside others: docs/benchmarks.md; as root, 15 minutes (QUICK=1: 3)
	@scripts/setup bench
	@$(MAKE) --no-print-directory bin/banger
	go build -C ext4/testdata/tar2ext4 -o "$(CURDIR)/bin/tar2ext4"
	go build -o bin/bench ./bench
	bin/bench

bench-go: ## every Go benchmark ten times, for benchstat
	@scripts/setup build
	go test -run '^$$' -bench . -benchmem -count 10 ./...

clean: ## remove what was built here
	rm -rf bin $(AGENT)
