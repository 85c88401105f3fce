#!/usr/bin/env bash
# Prepares whole Kubernetes clusters on this machine for tests/e2e, and prints the folder of the tool that brings
# them up. The tool is not part of Isthmus: REALK8S says where it is (default: ../shared/realk8s beside the
# checkout). It is copied into the cache folder, and what its nodes run is built there from the Go module proxy;
# one binary is finished before the next begins, so an interrupted run resumes. Needs root and Debian packages.
# `--where` only looks; `--can` says whether this machine could. Exit code 3, with the reason, where it cannot.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/isthmus
tool=${REALK8S:-../shared/realk8s}
binaries=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl etcd coredns pause)
images=(pause busybox coredns)

refuse() { echo "real_clusters: $1" >&2; exit 3; }

[ -f "$tool/cluster.py" ] || refuse "there is no $tool/cluster.py (REALK8S names the folder)"
[ "$(id -u)" -eq 0 ] || refuse "not root: nodes are namespaces with overlay mounts and cgroups"
unshare -muinpfC sh -c 'mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work &&
  mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work overlay /etc' 2>/dev/null ||
  refuse "this machine allows no namespaces with overlay mounts"
group=$(awk '$3 == "cgroup" || $3 == "cgroup2" {print $2; exit}' /proc/mounts)/isthmus-$$
{ mkdir "$group" && rmdir "$group"; } 2>/dev/null || refuse "this machine allows no cgroups"
[ "${1:-}" != --can ] || exit 0
home=$cache/realk8s-$(cd "$tool" && find . -type f -not -path './bin/*' -not -path './images/*' -not -path './state/*' \
  -print0 | sort -z | xargs -0 sha256sum | sha256sum | head -c 12)

if [ "${1:-}" = --where ]; then
  for name in "${binaries[@]}"; do [ -x "$home/bin/$name" ] || refuse "$name is not built: run tools/real_clusters.sh"; done
  for name in "${images[@]}"; do [ -f "$home/images/$name.tar" ] || refuse "image $name is missing: run tools/real_clusters.sh"; done
  echo "$home"
  exit
fi

missing=()
for package in containerd runc containernetworking-plugins busybox-static iptables nftables iproute2 tini openssl conntrack gcc libc6-dev; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || refuse "these packages are missing: ${missing[*]}"
  policy=/usr/sbin/policy-rc.d added=
  if [ ! -e $policy ]; then # containerd's own service is not wanted
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && added=yes
  fi
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
  [ -z "$added" ] || rm -f $policy
fi

mkdir -p "$home/bin" "$home/images"
cp -rn --no-preserve=mode "$tool/." "$home/"
chmod +x "$home"/*.py "$home"/*.sh

built=$(tools/go_tools.sh kubernetes)
for name in kube-apiserver kube-controller-manager kubectl etcd; do
  [ -x "$home/bin/$name" ] || cp "$built/$name" "$home/bin/$name"
done

build() { # build MODULE_FOLDER PACKAGE TARGET [LDFLAGS]: the target appears whole or not at all
  local begin=$SECONDS target=$home/bin/$3
  [ -x "$target" ] && return
  echo "  $3 …" >&2
  (cd "$home/build/$1" && CGO_ENABLED=0 nice -n 19 go build -trimpath -buildvcs=false -ldflags "-s -w ${4-}" -o "$target.part" "$2")
  mv "$target.part" "$target"
  echo "  $3: $((SECONDS - begin)) s, $(($(stat -c %s "$target") / 1000000)) MB" >&2
}

module() { (cd "$home/build/kubernetes" && go list -m -f "{{.$1}}" k8s.io/kubernetes); }
version=$(module Version) minor=
minor=${version#v1.}
stamp=k8s.io/component-base/version
for name in kube-scheduler kube-proxy kubelet; do
  build kubernetes "k8s.io/kubernetes/cmd/$name" "$name" \
    "-X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}"
done
build coredns github.com/coredns/coredns coredns
if [ ! -x "$home/bin/pause" ]; then
  gcc -Os -static -s -DVERSION="$version" -o "$home/bin/pause" "$(module Dir)/build/pause/linux/pause.c"
fi

image() { # image NAME MKIMAGE_ARGUMENTS...
  local target=$home/images/$1.tar
  [ -f "$target" ] && return
  nice -n 19 "$home/mkimage.py" --name "localhost/$1:1" "${@:2}" --out "$home/$1.part"
  mv "$home/$1.part" "$target"
}
image pause --file "$home/bin/pause:/pause" --entrypoint /pause --user 65535:65535
image busybox --busybox
image coredns --file "$home/bin/coredns:/coredns" --entrypoint /coredns
echo "$home"
