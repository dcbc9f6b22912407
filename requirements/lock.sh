#!/bin/sh
# Makes the lock files anew: hashes for every file, no index address in any line.
set -eu
cd "$(dirname "$0")/.."
lock() {
  out=$1; shift
  uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-strip-extras --universal --python-version 3.11 \
    --extra build "$@" pyproject.toml -o "requirements/$out"
  echo "requirements/$out"
}
lock serve.txt
lock demo.txt --extra demo
lock dev.txt --extra demo --extra dev
lock bench.txt --extra demo --extra bench
