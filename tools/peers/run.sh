#!/bin/sh
# Measures Dynamax beside llama.cpp, or candle: the very same weights, runs in turn, ratios within pairs.
#
#   tools/peers/run.sh WORK [MODEL...]      by default llama-135m-q4 llama-135m-q8 mamba-130m-q4
#
# A model is a shape of random_gguf.py and a quantization: also mistral-7b-q4, codestral-mamba-7b-q4, …-q8. It is written
# once as GGUF (Q4_0 or Q8_0), and imported by `dynamax build`, which keeps every bit of such weights.
#
# WORK is a directory outside the repository. Into it go a Python environment, llama.cpp as the source of the package
# llama-cpp-python carries it (built once, about ten minutes of one core), and the models: twice their size for a while.
# PEER (llama.cpp, or candle, which knows llama and mistral only), PAIRS (5), THREADS ("2 1"), PROMPTS ("128 512"),
# TOKENS (64) and RUN (a prefix for each measurement, such as "chrt -r 1") can be set; KEEP=no removes each model after
# it was measured.
set -eu
work=${1:?usage: tools/peers/run.sh WORK [MODEL...]}
shift
[ $# -gt 0 ] || set -- llama-135m-q4 llama-135m-q8 mamba-130m-q4
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$work"
work=$(cd "$work" && pwd)
jobs=${JOBS:-$(nproc)}

python="$work/venv/bin/python"
[ -x "$python" ] || python3 -m venv "$work/venv"
"$python" -c 'import gguf, cmake, ninja' 2>/dev/null || "$python" -m pip install --quiet cmake ninja gguf numpy
PATH="$work/venv/bin:$PATH"

case ${PEER:-llama.cpp} in
llama.cpp)
    bench="$work/llama/bin/llama-bench"
    if [ ! -x "$bench" ]; then
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
    ;;
candle)
    # A package of its own: candle is no dependency of this project, and its versions are not this project's.
    bench="$work/candle/target/release/candle-bench"
    mkdir -p "$work/candle/src"
    cp "$here/candle.rs" "$work/candle/src/main.rs"
    [ -f "$work/candle/Cargo.toml" ] || printf '%s\n' '[package]' 'name = "candle-bench"' 'edition = "2021"' '[workspace]' \
        '[dependencies]' 'candle-core = "0.9"' 'candle-transformers = "0.9"' > "$work/candle/Cargo.toml"
    (cd "$work/candle" && RUSTFLAGS="-C target-cpu=native" nice cargo build --quiet --release --jobs "$jobs")
    ;;
*)
    echo "PEER is llama.cpp or candle, not $PEER" >&2
    exit 2
    ;;
esac

dynamax=${DYNAMAX:-"$root/target/release/dynamax"}
[ -n "${DYNAMAX:-}" ] || (cd "$root" && cargo build --release --package dynamax)
for model in "$@"; do
    gguf="$work/$model.gguf"
    bundle="$work/$model.dmx"
    if [ ! -f "$gguf" ]; then
        "$python" "$here/random_gguf.py" "${model%-*}" "$gguf.part" "${model##*-}"
        mv "$gguf.part" "$gguf"
        rm -f "$bundle"
    fi
    [ -f "$bundle" ] || "$dynamax" build "$gguf" -o "$bundle"
    # shellcheck disable=SC2086 # These are lists.
    "$python" "$here/compare.py" --dynamax "$dynamax" --peer "$bench" --name "${PEER:-llama.cpp}" --work "$work" \
        --pairs "${PAIRS:-5}" --threads ${THREADS:-2 1} --prompts ${PROMPTS:-128 512} --tokens "${TOKENS:-64}" \
        --run "${RUN:-}" --models "$model"
    [ "${KEEP:-yes}" = yes ] || rm -f "$gguf" "$bundle"
done
