#!/bin/sh
# Measures Dynamax beside llama.cpp: the same shapes, random weights, paired runs, medians.
#
#   tools/peers/run.sh WORK [SHAPE...]      shapes of `cargo xtask random-checkpoint`; by default llama-135m mamba-130m
#
# WORK is a directory outside the repository. Into it go a Python environment, llama.cpp as the source of the package
# llama-cpp-python carries it (built once, about ten minutes of one core), checkpoints and models. PAIRS (7), THREADS
# ("1 2"), QUANT (q4) and RUN (a prefix for each measurement, such as "chrt -r 1") can be set.
set -eu
work=${1:?usage: tools/peers/run.sh WORK [SHAPE...]}
shift
[ $# -gt 0 ] || set -- llama-135m mamba-130m
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$work"
work=$(cd "$work" && pwd)
jobs=${JOBS:-$(nproc)}

python="$work/venv/bin/python"
[ -x "$python" ] || python3 -m venv "$work/venv"
"$python" -c 'import gguf, cmake, ninja' 2>/dev/null || "$python" -m pip install --quiet cmake ninja gguf numpy
PATH="$work/venv/bin:$PATH"

if [ ! -x "$work/llama/bin/llama-bench" ]; then
    if [ ! -d "$work/src" ]; then
        # The package's own build is not wanted, only its source: no dependencies, no binary.
        "$python" -m pip download --quiet --no-deps --no-binary llama-cpp-python llama-cpp-python -d "$work/sdist"
        mkdir "$work/src"
        tar -xzf "$work"/sdist/llama_cpp_python-*.tar.gz -C "$work/src" --strip-components=1
    fi
    # With everything that this machine's processor has.
    cmake -S "$work/src/vendor/llama.cpp" -B "$work/llama" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
        -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
    nice ninja -C "$work/llama" -j "$jobs" llama-bench
fi

dynamax="$root/target/release/dynamax"
(cd "$root" && cargo build --release --package dynamax --package xtask)
quant=${QUANT:-q4}
for shape in "$@"; do
    if [ ! -f "$work/$shape-$quant.dmx" ] || [ ! -f "$work/$shape-$quant.gguf" ]; then
        "$root/target/release/xtask" random-checkpoint "$shape" "$work/$shape"
        "$dynamax" build "$work/$shape" -o "$work/$shape-$quant.dmx" --quant "$quant"
        "$python" "$here/write_gguf.py" "$work/$shape" "$work/$shape-$quant.gguf" "$quant"
        rm -r "${work:?}/$shape"
    fi
done
exec "$python" "$here/compare.py" --dynamax "$dynamax" --llama "$work/llama/bin/llama-bench" --work "$work" \
    --quant "$quant" --pairs "${PAIRS:-7}" --threads ${THREADS:-1 2} --run "${RUN:-}" --shapes "$@"
