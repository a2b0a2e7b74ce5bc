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
for target in "${@:-onnx yaml safetensors image}"; do
  for one in $target; do
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz "$one" "$corpus/$one" -- \
      -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1
  done
done
