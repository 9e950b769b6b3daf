#!/bin/sh
# Install the Debian packages that are missing for `make run` or `make test`.
#
#   scripts/setup-debian.sh run    python3-venv, only where python3 can make no environment
#   scripts/setup-debian.sh test   also the real components that the tests work with
#   scripts/setup-debian.sh dist   also what tries the packages, and tries them on a machine without
#                                  a network, and a font for Chinese screenshots
#
# A program that is there already, from wherever, is left as it is. Where we are not root, or not
# on Debian or Ubuntu, it says what to install and goes on: tests that need an absent program are
# skipped with the reason. No service is started, and those that come with a package that was
# installed here are disabled.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# program:package
COMPONENTS='skopeo:skopeo umoci:umoci containerd:containerd runc:runc
    docker-registry:docker-registry zstd:zstd lz4:lz4 bzip2:bzip2 xz:xz-utils gzip:gzip
    strace:strace rsync:rsync curl:curl openssl:openssl pigz:pigz podman:podman buildah:buildah
    bsdtar:libarchive-tools 7z:p7zip-full busybox:busybox cpio:cpio lbzip2:lbzip2 pbzip2:pbzip2
    chromium-headless-shell:chromium-headless-shell npm:npm
    objdump:binutils pixz:pixz mkfs.ext4:e2fsprogs mount:mount'

# For trying packages: in a minimal Debian, and on a machine without a network.
MACHINE='mmdebstrap:mmdebstrap rpm:rpm debootstrap:debootstrap systemd-nspawn:systemd-container
    nsenter:util-linux systemctl:systemd'

# Without it Chromium draws boxes for Chinese in the pictures of the page.
CHINESE_FONT=/usr/share/fonts/truetype/wqy/wqy-microhei.ttc

has() { command -v "$1" >/dev/null 2>&1; }
say() { echo "airside: $*" >&2; }

missing_packages() {
    if python=$(scripts/find-python.sh); then
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
    elif ! has python3; then
        echo python3 python3-venv
    fi
    [ "$1" != run ] || return 0
    [ "$1" = test ] || [ -e "$CHINESE_FONT" ] || echo fonts-wqy-microhei
    for pair in $COMPONENTS $([ "$1" = test ] || echo "$MACHINE"); do
        has "${pair%%:*}" || echo "${pair#*:}"
    done
}

# While this script runs, packages may not start services (deb-policy: invoke-rc.d asks this file).
forbid_services() {
    [ -e /usr/sbin/policy-rc.d ] && return 0
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
}

install_packages() {
    apt-get -q -o DPkg::Lock::Timeout=120 -y --no-install-recommends install "$@"
}

# They would start at the next boot.
disable_service() {
    case $1 in
    containerd | docker-registry) has systemctl && systemctl disable "$1.service" || true ;;
    esac
}

case ${1:-} in
run | test | dist) ;;
*)
    say "usage: $0 run|test|dist"
    exit 2
    ;;
esac
packages=$(missing_packages "$1" | tr '\n' ' ')
[ -n "${packages% }" ] || exit 0

if ! has apt-get; then
    say "not a Debian or Ubuntu; install what these Debian packages hold: $packages"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    say "missing; as root: apt-get install --no-install-recommends $packages"
    exit 0
fi
say "installing $packages"
export DEBIAN_FRONTEND=noninteractive
forbid_services
apt-get -q update || say "apt-get update failed; trying with the package lists that are there"
# One that cannot be had must not keep the others away, so they are tried one by one then.
# shellcheck disable=SC2086
install_packages $packages || for package in $packages; do
    install_packages "$package" || say "cannot install $package, see above"
done
for package in $packages; do
    disable_service "$package"
done
