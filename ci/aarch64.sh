#!/usr/bin/env bash
# Tests the CPU backend and the noise as an aarch64 machine would run them, NEON included, on one that is none. Slow: every
# instruction is emulated. Wants rustup's target aarch64-unknown-linux-gnu, and Debian's g++-aarch64-linux-gnu and
# qemu-user-static or what is like them.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
tests() { cargo test --locked --release --target aarch64-unknown-linux-gnu "$@"; }

tests --lib -- cpu simd rng
tests --test golden_noise --test golden_samplers
tests --test conformance -- cpu conforms_with_every_instruction_set
