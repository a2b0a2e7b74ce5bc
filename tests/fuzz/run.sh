#!/usr/bin/env bash
# Fuzzes every target for so many seconds, from the corpus that the tests use: tests/fuzz/run.sh [SECONDS] [TARGET…]
# Needs cargo-fuzz. Stable Rust is told to allow the coverage instrumentation.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-600}
shift || true
corpus=$(mktemp -d)
trap 'rm -rf "$corpus"' EXIT
BBC_CORPUS="$corpus" cargo test --quiet --test mutations -- --exact the_corpus_is_written >/dev/null
if [ $# = 0 ]; then set -- onnx yaml safetensors image; fi
for target in "$@"; do
  # What is found lies in tests/fuzz/artifacts.
  BBC_FUZZ_TARGET="$target" RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz any "$corpus/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1
done
