#!/usr/bin/env bash
# Sets up .venv from the hashed requirements: with uv where it is at hand, else with Python's own
# venv and pip. As root on a bare Debian it first installs Python from Debian's packages.
# May be run again at any time, also after it was cut off half-way.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
has() { command -v "$1" >/dev/null; }

# 3.11 or later; without uv it must bring venv and pip as well.
good_python() {
  local needs=sys
  has uv || needs=sys,venv,ensurepip
  "$1" -c "import $needs; sys.exit(sys.version_info < (3, 11))" 2>/dev/null
}

find_python() {
  local name
  for name in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3.14 python3 /usr/bin/python3; do
    if has "$name" && good_python "$name"; then
      command -v "$name"
      return
    fi
  done
  return 1
}

install_python() {
  if [ "$(id -u)" != 0 ] || ! has apt-get; then
    say "no Python 3.11 or later with venv is here."
    say "Install one (on Debian 12: python3 and python3-venv), or uv, and run this again."
    exit 1
  fi
  say "installing Python from Debian's packages"
  local wait=(-o DPkg::Lock::Timeout=240)
  apt-get update -qq "${wait[@]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wait[@]}" \
    python3 python3-venv ca-certificates >/dev/null
}

if ! python=$(find_python); then
  install_python
  python=$(find_python) || { say "Debian's Python is older than 3.11: use Debian 12, or uv"; exit 1; }
fi

if has uv; then
  say "with uv and $("$python" --version)"
  good_python .venv/bin/python || uv venv --quiet --clear --python "$python" .venv
  uv pip sync --quiet --python .venv/bin/python --require-hashes requirements/{all,build}.txt
  uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
else
  say "with pip and $("$python" --version); claude-agent-sdk alone is a download of 167 MB"
  if ! good_python .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --clear .venv
  fi
  pip=(.venv/bin/python -m pip --quiet --disable-pip-version-check --retries 10)
  "${pip[@]}" install --require-hashes -r requirements/all.txt -r requirements/build.txt
  "${pip[@]}" install --no-deps --no-build-isolation --editable .
fi
say "done: .venv/bin/postroom"
