#!/usr/bin/env bash
# Measures noisefork and what else there is, engines in turns, into record/MACHINE/DATE, and makes the tables and plots anew:
#
#   record/measure.sh MACHINE [PYTHON]
#
# MACHINE is a plain name of the processor, such as epyc-zen4-2cores; PYTHON one that has rivals/requirements.txt (python3).
# Its parts add up to some 40 minutes on two cores, much of it what torch and OpenVINO take to compile; nothing else should
# run meanwhile. QUICK=1 tries every part, shorter, into a folder in /tmp, and changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
machine=${1:?a name for the machine}
python=${2:-python3}
folder=$PWD/record/$machine/$(date -u +%F)
passes=2
[ -z "${QUICK:-}" ] || { folder=$(mktemp -d); passes=1; }
mkdir -p "$folder"
start=$SECONDS

say() { printf '== %4s s  %s\n' "$((SECONDS - start))" "$*"; }

# Ours alone, added to a file.
ours() {
    local file=$1
    shift
    say "$*"
    target/release/noisefork bench "$@" --format jsonl >>"$folder/$file.jsonl"
}

# A comparison of rivals/, added to a file.
turns() {
    local file=$1 program=$2
    shift 2
    say "rivals/$program.py $*"
    "$python" "rivals/$program.py" --rounds 1 --passes "$passes" --record "$folder/$file.jsonl" "$@" >>"$folder/said"
}

cargo build --release --locked
rm -f "$folder"/*.jsonl

turns noise noise
turns samplers samplers
turns samplers samplers --batch 16 --side 128
for dtype in f32 bf16; do
    for batch in 2 1; do turns unet unet --dtype "$dtype" --batch "$batch"; done
    turns ops ops --dtype "$dtype" --batch 2
done

ours samplers sampler --iterations 10
[ -n "${QUICK:-}" ] && sizes=(256 384) batches=(4) || { sizes=(256 384 768 1024) batches=(4 8); }
for dtype in f32 bf16; do
    growth=(growth unet --dtype "$dtype" --iterations "$passes")
    for batch in "${batches[@]}"; do ours "${growth[@]}" --batch "$batch"; done
    for size in "${sizes[@]}"; do ours "${growth[@]}" --batch 1 --size "$size"; done
    ours "${growth[@]}" --batch 1 --threads 1
done
if [ -z "${QUICK:-}" ]; then
    ours growth unet --preset sd21 --dtype bf16 --batch 1 --iterations 1
    ours growth unet --preset sdxl --dtype bf16 --batch 1 --iterations 1
    ours growth variations
    rm "$folder/said"
    TABLES=write cargo test --locked --release --test tables
fi
say "$folder"
