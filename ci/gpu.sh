#!/usr/bin/env bash
# Tests and times the kernels on a GPU. Two steps, since machines with a GPU need not have a toolchain:
#
#   ci/gpu.sh build              where cargo and nvcc are: puts the programs into target/gpu
#   ci/gpu.sh run [--sanitize]   where the GPU is, in a checkout with that folder: needs bash and NVIDIA's driver
#
# `run` takes less than 8 minutes and writes record/MACHINE/DATE.txt: device, driver, commit, what was run, what failed, the
# worst errors, the timings; and record/MACHINE/DATE/*.jsonl, what `noisefork bench` found. --sanitize runs a share of the tests under compute-sanitizer, which must be in PATH, and times
# nothing. It fails if anything does, a missing device first of all.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=$PWD/target/gpu
tests=(conformance golden_unet golden_autoencoder golden_emoji)
minutes=8

build() {
    eval "$(ci/nvcc.sh)"
    cargo build --locked --release --features cuda
    local arguments=(--locked --release --features cuda --no-run --message-format json --bench cuda)
    local name
    for name in "${tests[@]}"; do arguments+=(--test "$name"); done
    rm -rf "$programs" && mkdir -p "$programs"
    # Artifacts of tests and benchmarks, each with the name of its target and the program that was made of it.
    cargo test "${arguments[@]}" >"$programs/artifacts"
    local program
    for name in "${tests[@]}" cuda; do
        program=$(grep "\"name\":\"$name\"" "$programs/artifacts" | grep -o '"executable":"[^"]*"' | tail -1)
        program=${program#*:\"}
        cp "${program%\"}" "$programs/$name"
    done
    cp target/release/noisefork "$programs/"
    # The programs look for golden files where they were built.
    pwd >"$programs/built-at"
    commit >"$programs/commit"
    echo "ci/gpu.sh: built $programs"
}

commit() { git log -1 --format=%H 2>/dev/null && { git diff --quiet HEAD || echo "with changes"; }; }

fail() { echo "ci/gpu.sh: $*" >&2; exit 1; }

run() {
    local sanitize=${1:-} built_at name
    [ -z "$sanitize" ] || [ "$sanitize" = --sanitize ] || fail "run takes --sanitize or nothing, got $sanitize"
    [ -x "$programs/noisefork" ] || fail "no programs in $programs: run 'ci/gpu.sh build' first"
    built_at=$(cat "$programs/built-at")
    [ -e "$built_at" ] || { mkdir -p "$(dirname "$built_at")" && ln -s "$PWD" "$built_at"; } ||
        fail "the programs look for golden files in $built_at, which cannot be made"
    "$programs/noisefork" doctor
    "$programs/noisefork" doctor | grep -q '^cuda:0 .*: usable' || fail "no device that this build can use"
    local checker=()
    if [ -n "$sanitize" ]; then
        command -v compute-sanitizer >/dev/null || fail "no compute-sanitizer in PATH"
        checker=(compute-sanitizer --error-exitcode 9 --leak-check full)
        export GPU_CASES=few
    fi

    local folder record started=$SECONDS failed=()
    # The device's plain name, as `doctor` has it before what it is capable of.
    folder=record/$("$programs/noisefork" doctor | sed -n 's/^cuda:0 *\([^,:]*\).*/\1/p' | tr -cs 'A-Za-z0-9\n' '-')
    mkdir -p "$folder"
    record=$folder/$(date -u +%Y-%m-%dT%H%M%SZ).txt
    export REQUIRE_GPU=1
    {
        echo "commit: $(tr '\n' ' ' <"$programs/commit")"
        echo "mode: ${sanitize:-plain}"
        "$programs/noisefork" doctor
        nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv 2>/dev/null || true
    } >"$record"

    # A step: its name, then its command, cut off when the time is up. The record gets what matters of what it said.
    step() {
        local name=$1 log
        shift
        log=$(mktemp)
        local left=$((minutes * 60 - SECONDS + started))
        if timeout "$((left > 1 ? left : 1))" "$@" >"$log" 2>&1; then
            echo "ok     $name"
        else
            echo "FAILED $name, exit status $?"
            failed+=("$name")
            tail -40 "$log"
        fi
        {
            printf '\n== %s, %s s\n' "$name" "$((SECONDS - started))"
            grep -E 'panicked|^test .*FAILED|^test result|error|skipped|time:|thrpt:|^cuda/|ERROR SUMMARY' "$log" || true
        } >>"$record"
        rm "$log"
    }

    for name in "${tests[@]}"; do
        step "$name" "${checker[@]}" "$programs/$name" gpu --nocapture
    done
    local picture
    picture=$(mktemp -d)/variations.png
    step variations "${checker[@]}" "$programs/noisefork" variations --device cuda:0 --image "$picture"
    if [ -z "$sanitize" ]; then
        local day what
        day=$folder/$(date -u +%F)
        mkdir -p "$day"
        step benchmarks "$programs/cuda" --bench
        for what in ops unet; do
            step "bench $what" "$programs/noisefork" bench "$what" --device cuda:0 --dtype f16 --out "$day/$what.jsonl"
        done
    fi

    printf '\nfailed: %s\n' "${failed[*]:-nothing}" | tee -a "$record"
    echo "ci/gpu.sh: $record, $((SECONDS - started)) s"
    [ ${#failed[@]} -eq 0 ]
}

case ${1:-} in
build) build ;;
run) run "${@:2}" ;;
*) fail "expected build or run, got '${1:-}'" ;;
esac
