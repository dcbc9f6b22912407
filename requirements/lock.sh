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
# What FastAPI read forms with, from 0.88 on; the newest is in dev.txt.
forms() {
  out=$1; shift
  printf '%s\n' "$@" | uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 \
    - -o "requirements/$out"
  echo "requirements/$out"
}
forms forms/0.88.txt starlette==0.22.0 python-multipart==0.0.6
forms forms/0.110.txt starlette==0.36.3 python-multipart==0.0.9
forms forms/0.115.txt starlette==0.41.3 python-multipart==0.0.17
