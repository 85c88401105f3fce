#!/usr/bin/env bash
# Makes .venv with the locked dependencies: `bootstrap.sh run` (to use Isthmus) or `bootstrap.sh dev` (to work on it).
# uv does it in seconds where it is on PATH; else python3's own venv and pip do.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?run or dev}
python=${PYTHON:-python3}
case $what in
  run) lock=requirements.txt size=60 ;;
  dev) lock=requirements-dev.txt size=150 ;;
  *) echo "bootstrap: '$what' is neither run nor dev" >&2; exit 2 ;;
esac

command -v "$python" >/dev/null || { echo "bootstrap: python3 is missing: install it (Debian: apt install python3 python3-venv)" >&2; exit 3; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "bootstrap: $($python --version) is too old: Isthmus needs Python 3.11 or newer (PYTHON=/path/to/python3 make …)" >&2; exit 3; }

echo "Installing locked dependencies into .venv (first time: about $size MB to download) …" >&2
if uv=$(command -v uv); then
  [ -x .venv/bin/python ] || "$uv" venv -q --python "$python" .venv
  "$uv" pip install -q --python .venv/bin/python --require-hashes -r "$lock"
else
  if [ ! -x .venv/bin/pip ]; then
    "$python" -m venv .venv 2>/dev/null || { rm -rf .venv
      echo "bootstrap: python3 cannot make virtual environments: install python3-venv (Debian: apt install python3-venv)" >&2; exit 3; }
  fi
  .venv/bin/pip install -q --disable-pip-version-check --require-hashes -r "$lock"
fi
touch .venv/run.done
[ "$what" = run ] || touch .venv/dev.done
