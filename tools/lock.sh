#!/usr/bin/env bash
# Resolves pyproject.toml for every supported Python into requirements.lock, with hashes, naming no registry.
set -euo pipefail
bin=${1:?usage: lock.sh BIN}
"$bin/python" -m pip install --quiet uv
"$bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --all-extras --group dev --custom-compile-command "make lock" \
  pyproject.toml -o requirements.lock
