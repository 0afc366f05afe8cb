#!/usr/bin/env bash
# Creates the virtual environment $1 from requirements.lock. Needs Python 3.11 or newer, nothing else.
set -euo pipefail
venv=${1:?usage: bootstrap.sh VENV}
here=$(cd "$(dirname "$0")/.." && pwd)

python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "Stillframe needs Python 3.11 or newer; none was found on PATH." >&2
  exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  else
    echo "Python's venv module is missing; install it first: sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "Installing the pinned dependencies into $venv ..."
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r "$here/requirements.lock"
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e "$here"
