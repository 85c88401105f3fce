#!/usr/bin/env bash
# Builds the Go programs that tests run beside Isthmus, from the Go module proxy, into the cache folder:
#   kubernetes  kubectl, etcd, kube-apiserver and kube-controller-manager, for tests marked `realapi`
#   helm        for the chart's tests
#   coredns     which our DNS is compared with
# `go_tools.sh [kubernetes|helm|coredns]...` (default: all) builds what is missing and prints one folder per line;
# `--where` only prints. One binary is finished before the next begins, so an interrupted run resumes.
# KUBEBUILDER_ASSETS (a folder with such binaries) is used instead of building Kubernetes. etcd is built as well:
# the one of Debian 12 (3.4) cannot report progress, and kube-apiserver then refuses watches with initial events.
set -euo pipefail
cd "$(dirname "$0")"
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/isthmus

version_of() { # version_of MODULE_FOLDER MODULE
  awk -v module="$2" '$1 == "require" && $2 == module {print $3} $1 == module && $2 != "=>" {print $2}' "$1/go.mod" | head -n 1
}

kubernetes_version=$(version_of kubernetes k8s.io/kubernetes)
helm_version=$(version_of helm helm.sh/helm/v3)
kubernetes_home=${KUBEBUILDER_ASSETS:-$cache/kubernetes-$kubernetes_version}
helm_home=$cache/helm-$helm_version
coredns_version=$(version_of coredns github.com/coredns/coredns)
coredns_home=$cache/coredns-$coredns_version

need_go() {
  PATH=$PATH:/usr/local/go/bin
  command -v go >/dev/null || {
    echo "go_tools: Go is missing: install Go 1.24 or newer (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a folder with kubectl, etcd, kube-apiserver and kube-controller-manager" >&2
    exit 3
  }
}

build() { # build MODULE_FOLDER PACKAGE TARGET LDFLAGS: the target appears whole or not at all
  local begin=$SECONDS target=$3 name
  name=$(basename "$target")
  echo "  $name …" >&2
  mkdir -p "$(dirname "$target")"
  (cd "$1" && CGO_ENABLED=0 nice -n 19 go build -trimpath -buildvcs=false -ldflags "-s -w $4" -o "$target.part" "$2")
  mv "$target.part" "$target"
  echo "  $name: $((SECONDS - begin)) s, $(($(stat -c %s "$target") / 1000000)) MB" >&2
}

kubernetes() {
  local missing=() name stamp=k8s.io/component-base/version minor
  for name in kubectl etcd kube-apiserver kube-controller-manager; do
    [ -x "$kubernetes_home/$name" ] || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    echo "go_tools: KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks: ${missing[*]} (unset it to have them built)" >&2
    exit 3
  fi
  need_go
  echo "Building ${missing[*]} $kubernetes_version into $kubernetes_home" >&2
  echo "(once; 10-20 minutes on two cores, 280 MB of binaries, about 3 GB of Go's own caches) …" >&2
  minor=${kubernetes_version#v1.}
  for name in "${missing[@]}"; do
    [ "$name" != etcd ] || { build etcd go.etcd.io/etcd/server/v3 "$kubernetes_home/etcd" ""; continue; }
    build kubernetes "k8s.io/kubernetes/cmd/$name" "$kubernetes_home/$name" \
      "-X $stamp.gitVersion=$kubernetes_version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}"
  done
}

helm() {
  [ -x "$helm_home/helm" ] && return
  need_go
  echo "Building helm $helm_version into $helm_home" >&2
  echo "(once; 1-5 minutes on two cores, 60 MB) …" >&2
  build helm helm.sh/helm/v3/cmd/helm "$helm_home/helm" "-X helm.sh/helm/v3/internal/version.version=$helm_version"
}

coredns() {
  [ -x "$coredns_home/coredns" ] && return
  need_go
  echo "Building coredns $coredns_version into $coredns_home" >&2
  echo "(once; 2-10 minutes on two cores, 60 MB) …" >&2
  build coredns github.com/coredns/coredns "$coredns_home/coredns" ""
}

make=yes wanted=()
for word in "$@"; do
  case $word in
    --where) make=no ;;
    kubernetes | helm | coredns) wanted+=("$word") ;;
    *) echo "go_tools: '$word' is none of kubernetes, helm, coredns, --where" >&2; exit 2 ;;
  esac
done
[ ${#wanted[@]} -gt 0 ] || wanted=(kubernetes helm coredns)
for what in "${wanted[@]}"; do
  [ "$make" = no ] || "$what"
  home=${what}_home
  echo "${!home}"
done
