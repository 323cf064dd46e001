#!/bin/bash
# README's two commands in a minimal Debian 12 with nothing but git and make: for runs by hand, as root, on a machine with mmdebstrap or debootstrap.
#
#   tools/fresh_root.sh [-k] [-c COMMAND]... [DIR]      default commands: "make up" and "make test"; -k keeps the root afterwards
#
# DIR (default: a temporary directory) becomes the root. The checkout is cloned from this one, so only what is committed counts. The commands
# run in namespaces of their own: to each the machine seems to have booted anew. Package sources, proxies and certificates are taken over from this
# machine; the network is shared until `make install` is through and is then taken away, so that no packet of a guest can leave the machine.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
keep=0; commands=()
while getopts 'kc:' o; do case $o in k) keep=1 ;; c) commands+=("$OPTARG") ;; *) sed -n '2,9p' "$0"; exit 2 ;; esac; done
shift $((OPTIND - 1))
[ ${#commands[@]} -gt 0 ] || commands=('make up' 'make test')
[ "$(id -u)" = 0 ] || { echo "fresh_root.sh needs root" >&2; exit 2; }
dir=${1:-$(mktemp -d /var/tmp/pileus-root.XXXXXX)}
mkdir -p "$dir"
cleanup() { [ "$keep" = 1 ] && echo "kept: $dir" || rm -rf --one-file-system "$dir"; }
trap cleanup EXIT
say() { printf '== %s (%s s)\n' "$*" "$SECONDS"; }

if [ ! -e "$dir/usr/bin/make" ]; then
    say "minimal root in $dir"
    if command -v mmdebstrap >/dev/null; then
        mmdebstrap -q --variant=minbase --include=git,make,ca-certificates bookworm "$dir"
    else
        debootstrap --variant=minbase --include=git,make,ca-certificates bookworm "$dir" >/dev/null
    fi
fi
# how this machine reaches its package sources
cp -L /etc/resolv.conf /etc/hosts "$dir/etc/" 2>/dev/null || true
mkdir -p "$dir/etc/ssl/certs" "$dir/usr/local/share/ca-certificates"
cp -L /etc/ssl/certs/ca-certificates.crt "$dir/etc/ssl/certs/"
cp -rL /etc/apt/sources.list* "$dir/etc/apt/" 2>/dev/null || true
rm -f "$dir"/etc/apt/sources.list.d/*{google,nodesource,cloud}*
[ ! -e /etc/apt/sources.list.d/debian.sources ] || rm -f "$dir/etc/apt/sources.list"
cp -rL /etc/apt/apt.conf.d/*[Pp]roxy* "$dir/etc/apt/apt.conf.d/" 2>/dev/null || true
[ ! -e /etc/pip.conf ] || cp -L /etc/pip.conf "$dir/etc/"

rm -rf "$dir/root/pileus"
git clone -q --no-hardlinks "$top" "$dir/root/pileus"

# inside: as if the machine had booted anew: own mounts and processes; the network is unshared by the inner call, after the installation
inside() { # NETWORK(shared|none) COMMAND
    local net=(); [ "$1" = shared ] || net=(--net)
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
        http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" \
        ${PIP_CERT:+PIP_CERT=/etc/ssl/certs/ca-certificates.crt} ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} \
        unshare --mount --pid --fork --kill-child --uts --ipc --propagation private "${net[@]}" bash -c '
            set -e
            dir=$1
            mount --bind "$dir" "$dir"; cd "$dir"
            mount -t proc proc proc; mount -t sysfs sysfs sys
            mount --rbind /dev dev
            mount -t tmpfs tmpfs run; cat proc/sys/kernel/random/uuid > run/boot_id
            mount --bind run/boot_id proc/sys/kernel/random/boot_id  # no process is left of the command before: as after a boot
            mount -t tmpfs -o mode=1777 tmpfs tmp
            mkdir -p .outside; pivot_root . .outside  # not only chroot: who enters these namespaces has to find this root
            exec chroot . /bin/bash -c "umount -l /.outside; ip link set lo up 2>/dev/null; cd /root/pileus && $2"
        ' inside "$dir" "$2"
}
code=0
say "make install, with the network"
inside shared "make install && tools/install test"
for command in "${commands[@]}"; do
    say "$command, without the network"
    inside none "$command" || { code=$?; say "$command failed with $code"; }
done
say "finished with $code"
exit $code
