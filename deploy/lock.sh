#!/usr/bin/env bash
# Writes the hashed requirements that the project installs from. They name no index.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal \
    --python-version 3.11 --no-annotate "$@"
}
mkdir -p requirements
compile pyproject.toml -o requirements/run.txt
compile pyproject.toml --extra demo -o requirements/demo.txt
compile pyproject.toml --extra demo --group test --group lint -o requirements/all.txt
echo hatchling editables | tr ' ' '\n' | compile - -o requirements/build.txt
