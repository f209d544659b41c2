#!/usr/bin/env bash
# Gets nvcc, without a CUDA toolkit and without root: NVIDIA's own packages on PyPI, in a virtual environment under target/.
# Prints what to export:
#
#   eval "$(ci/nvcc.sh)" && cargo build --release --features cuda
#
# Wants python3 with venv, and a C++ compiler, which nvcc preprocesses with.
set -euo pipefail
cd "$(dirname "$0")/.."

# 13.0 is the oldest release there: what it compiles runs on every driver for CUDA 13 (580 or newer). The two that take
# machine code apart came later, and read it.
release='==13.0.*'
packages=(nvidia-cuda-nvcc"$release" nvidia-nvvm"$release" nvidia-cuda-crt"$release" nvidia-cuda-runtime"$release"
          nvidia-cuda-cccl"$release" 'nvidia-cuda-cuobjdump==13.2.*' 'nvidia-cuda-nvdisasm==13.2.*')

environment=$PWD/target/nvcc
# The list of packages is written last: it tells a whole environment from one that was interrupted or is another's.
if [ "$(cat "$environment/packages" 2>/dev/null)" != "${packages[*]}" ]; then
    rm -rf "$environment"
    python3 -m venv "$environment" >&2
    "$environment/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" >&2
    echo "${packages[*]}" >"$environment/packages"
fi

nvcc=$(find "$environment" -path '*/bin/nvcc' -type f)
home=${nvcc%/bin/nvcc}
test -x "$nvcc" || { echo "ci/nvcc.sh: no nvcc in $environment" >&2; exit 1; }
printf 'export CUDA_HOME=%q\n' "$home"
