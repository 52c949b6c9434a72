#!/usr/bin/env bash
# Sets up .venv from the hashed requirements: with uv where it is at hand, else with Python's own
# venv and pip. As root on a bare Debian it first installs Python from Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }

good_python() {  # 3.11 or later, with venv and pip
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  local name
  for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 /usr/bin/python3; do
    [ -n "$name" ] && command -v "$name" >/dev/null && good_python "$name" && { command -v "$name"; return; }
  done
  return 1
}

if command -v uv >/dev/null; then
  say "with uv"
  [ -x .venv/bin/python ] || uv venv --quiet --python '>=3.11' .venv
  uv pip sync --quiet --python .venv/bin/python --require-hashes requirements/all.txt requirements/build.txt
  uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
else
  if ! python=$(find_python); then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      say "installing Python from Debian's packages"
      apt-get update -qq -o DPkg::Lock::Timeout=240
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=240 python3 python3-venv python3-pip ca-certificates >/dev/null
      python=$(find_python) || { say "Debian's Python is older than 3.11: use Debian 12, or install uv"; exit 1; }
    else
      say "no Python 3.11 or later with venv is here: install one, or uv, and run this again"
      exit 1
    fi
  fi
  say "with $("$python" --version)"
  if ! [ -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --clear .venv
  fi
  say "downloading; claude-agent-sdk alone is 167 MB"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
    -r requirements/all.txt -r requirements/build.txt
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
    --no-build-isolation --editable .
fi
say "done: .venv/bin/postroom"
