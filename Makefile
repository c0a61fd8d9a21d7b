# A thin index of commands: what they do is in scripts/, in tests/ and in cargo.

CARGO ?= cargo
PREFIX ?= /usr/local
export CARGO PREFIX DESTDIR

# On a build machine a test whose need is absent fails instead of saying so.
ifeq ($(CI),true)
export NATIVEBUILD_REQUIRE ?= root,user,peers,foreign
endif

.PHONY: build demo test lint conformance conformance-record bless bench instructions install

build:
	$(CARGO) build --release --locked

demo:
	scripts/demo

test:
	scripts/setup-test-machine
	$(CARGO) test --workspace --locked

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/lint-project

conformance:
	scripts/setup-test-machine
	NATIVEBUILD_BUILDKIT=check NATIVEBUILD_BUILDAH=check NATIVEBUILD_REQUIRE=root,peers,buildkit,buildah \
		$(CARGO) test --locked --test it -- --nocapture conformance differential

conformance-record:
	scripts/setup-test-machine
	NATIVEBUILD_BUILDKIT=record NATIVEBUILD_BUILDAH=record NATIVEBUILD_REQUIRE=root,peers,buildkit,buildah \
		$(CARGO) test --locked --test it -- --nocapture differential::records_are

bless:
	UPDATE_EXPECT=1 $(CARGO) test --workspace --locked

bench:
	scripts/setup-test-machine bench
	$(CARGO) build --release --locked && $(CARGO) build --release --locked --example hot-paths
	bench/all

instructions:
	scripts/setup-test-machine bench
	$(CARGO) build --release --locked && $(CARGO) build --release --locked --example hot-paths
	bench/instructions --check

install:
	scripts/install
