#!/usr/bin/env bash
# Prints the path of a Python that has `envoy-data-plane`, an xDS API that shares no code with protobuf: tests decode
# with it what is rendered. It lives in a cache of its own, because it needs versions that nothing else here does.
set -euo pipefail
cd "$(dirname "$0")/.."
version=2.2.0
home=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/isthmus
place=$home/envoy-data-plane-$version
if [ ! -x "$place/bin/python" ]; then
  echo "Installing envoy-data-plane $version (about 20 MB) …" >&2
  mkdir -p "$home"
  work=$(mktemp -d "$home/.data-plane.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python=.venv/bin/python
  [ -x "$python" ] || python=${PYTHON:-python3}
  "$python" -m venv --without-pip "$work/venv"
  uv=.venv/bin/uv
  [ -x "$uv" ] || uv=uv
  "$uv" pip install -q --python "$work/venv/bin/python" "envoy-data-plane==$version" "betterproto2==0.9.1"
  rm -rf "$place"
  mv "$work/venv" "$place"
fi
echo "$place/bin/python"
