# make test   everything: vet, static analysis, race detector, fuzz seeds, real boots
# make bench  every hot path against its floor, measured in the same run
# make lock   the example's inputs as they are now, by digest
# make soak   what takes longer than a reader's patience: fuzzing, repeated kills

SHELL := /bin/bash
GO    ?= go
export GOFLAGS := -buildvcs=false

# Run by version, so that tools stay out of the product's module graph.
GOTESTSUM   := $(GO) run gotest.tools/gotestsum@v1.13.0
STATICCHECK := $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := $(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0

PACKAGES := gcc libc6-dev gpgv qemu-system-x86 ovmf swtpm swtpm-tools tpm2-tools
FUZZTIME ?= 10m

.PHONY: test deps lint unit recipes build lock bench soak fuzz

test: deps lint unit recipes

build:
	$(GO) build -o bin/ ./cmd/vitrine ./cmd/vitrine-node

lock:
	$(GO) run ./cmd/vitrine lock testdata/recipes/hello-inference

# As root on Debian, what is missing is installed; anybody else is told. The race
# detector needs a C compiler, locking a recipe gpgv, and a boot the rest.
deps:
	@missing=""; \
	for tool in gcc gpgv qemu-system-x86_64 swtpm swtpm_setup tpm2_quote; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	[ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || missing="$$missing OVMF"; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing what is missing:$$missing"; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(PACKAGES) >/dev/null; \
		else \
			echo "some tests will be skipped, or fail; they need:$$missing"; \
			echo "  sudo apt-get install --no-install-recommends $(PACKAGES)"; \
		fi; \
	fi

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "gofmt these: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(STATICCHECK) ./...
	@if out=$$($(GOVULNCHECK) ./... 2>&1); then echo "govulncheck: no known vulnerability is reached"; \
	elif echo "$$out" | grep -qE 'no such host|connection refused|Forbidden|timeout|fetching vulnerabilities'; then echo "govulncheck: skipped, the vulnerability database cannot be reached"; \
	else echo "$$out"; exit 1; fi

# gotestsum lists at its end what was skipped, and why.
unit:
	$(GOTESTSUM) --format pkgname --format-hide-empty-pkg -- -race -timeout 20m ./...

# The server inside the example image is a module of its own.
recipes:
	cd testdata/recipes/hello-inference/server && $(GO) vet ./... && $(GO) test ./...

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# What kills processes at random moments, again and again.
soak: fuzz
	$(GO) test -race -count 10 -timeout 4h ./log ./log/witness ./log/staple ./monitor ./node

fuzz:
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "fuzzing $$pkg $$target for $(FUZZTIME)"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
		done; \
	done
