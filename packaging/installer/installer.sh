#!/bin/sh
# Airside @VERSION@ for @ARCH@: a program in one file. `sh FILE` installs it, `sh FILE --help` tells more.
# Needs sh, tar and gzip, as busybox has them, and no Python. What follows the line __PAYLOAD__ is a
# compressed tar. This part is also installed, as PREFIX/uninstall.
SUM=@SUM@
set -eu
umask 022

VERSION=@VERSION@
ARCH=@ARCH@
MACHINE=@MACHINE@
GLIBC=@GLIBC@
ID=@ID@
LINES=@LINES@
OFFSET=@OFFSET@
SIZE=@SIZE@
UNPACKED_KB=@UNPACKED_KB@
SELF=$0

say() { printf '%s\n' "$*"; }
fail() {
    printf 'airside: %s\n' "$*" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

usage() {
    cat <<TEXT
Usage: sh $(basename "$SELF") [OPTION]...

Installs Airside $VERSION for $ARCH: as root below /opt/airside, else below ~/.local/lib/airside.
An older version there is replaced; its agent keeps running until it is restarted, which the options of
a service do.

  --prefix DIR      install below DIR, without a link in /usr/local/bin or ~/.local/bin
  --systemd         then run \`airside install --systemd\`: a service, and mirror settings
  --k3s | --rke2 | --k0s | --microk8s
                    the same for the containerd of that Kubernetes
  --check           compare the file with its checksum, and end
  --extract DIR     unpack into DIR, which must not exist, and end
  --uninstall       remove the program, and before it the service and mirror settings
  --purge           with --uninstall: remove images and data too
  --version         print the version, and end
  --help            print this, and end
TEXT
}

# What the options say.
action=install
prefix=
service=
purge=
target=
while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --extract)
        [ $# -gt 1 ] && [ -n "$2" ] || fail "$1 needs a directory"
        if [ "$1" = --prefix ]; then prefix=$2; else action=extract target=$2; fi
        shift
        ;;
    --prefix=*) prefix=${1#*=} ;;
    --extract=*) action=extract target=${1#*=} ;;
    --systemd | --k3s | --rke2 | --k0s | --microk8s) service=$1 ;;
    --check) action=check ;;
    --uninstall) action=uninstall ;;
    --purge) purge=--purge ;;
    --version)
        say "airside $VERSION $ARCH"
        exit 0
        ;;
    --help | -h)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    shift
done

is_root() { [ "$(id -u)" = 0 ]; }

case $SELF in
uninstall | */uninstall) [ "$action" != install ] || action=uninstall ;; # the installed copy
esac
[ -z "$purge" ] || [ "$action" = uninstall ] || fail "--purge goes with --uninstall only"

links=
pages=
if [ -z "$prefix" ]; then
    if is_root; then links=/usr/local/bin; else links=${HOME:?}/.local/bin; fi
    pages=${links%/bin}/share/man # where man looks for the pages of programs in $links
    case $SELF in
    uninstall | */uninstall) prefix=$(cd "$(dirname "$SELF")" && pwd) ;;
    *) if is_root; then prefix=/opt/airside; else prefix=${HOME:?}/.local/lib/airside; fi ;;
    esac
fi
case $prefix in
/*) ;;
*) prefix=$PWD/$prefix ;;
esac

# The file.

sum256() {
    if has sha256sum; then
        sha256sum | cut -d' ' -f1
    elif has shasum; then
        shasum -a 256 | cut -d' ' -f1
    else
        openssl dgst -sha256 -r | cut -d' ' -f1
    fi
}

payload() { tail -c "+$((OFFSET + 1))" "$SELF"; }

check() {
    has sha256sum || has shasum || has openssl ||
        fail "none of sha256sum, shasum and openssl is here: the file cannot be checked"
    [ -f "$SELF" ] || fail "run it as a file: sh airside-$VERSION-$ARCH.run"
    found=$(wc -c <"$SELF")
    found=$((found))
    expected=$((OFFSET + SIZE))
    [ "$found" -eq "$expected" ] ||
        fail "$SELF has $found bytes, not $expected: it was not copied whole; copy it again"
    sum=$({ sed -n "1,${LINES}p" "$SELF" | sed '/^SUM=/d'; payload; } | sum256)
    [ "$sum" = "$SUM" ] ||
        fail "$SELF is damaged: its checksum is $sum, not $SUM; copy it again"
}

unpack() { # DIR
    payload | gzip -dc | (cd "$1" && tar -xof -)
}

# Installing.

check_machine() {
    machine=$(uname -m)
    [ "$machine" = "$MACHINE" ] ||
        fail "this file is for $MACHINE, and this machine is $machine: take the other file"
    found=$(df -Pk "$prefix" | awk 'NR == 2 {print $4}')
    [ "$found" -ge "$UNPACKED_KB" ] ||
        fail "$prefix has $found KiB free, and $UNPACKED_KB are needed: free space, or use --prefix"
}

check_program() { # DIR
    if ! said=$("$1/bin/airside" --version 2>&1); then
        libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || echo 'no glibc')
        rm -rf "$1"
        say "$said" >&2
        fail "the program does not start here, and nothing was changed. It needs glibc $GLIBC or later" \
            "(here: $libc), and a file system without noexec for $prefix"
    fi
}

# Removes versions that no process runs.
remove_others() { # the name of the one that stays
    for directory in "$prefix"/versions/* "$prefix"/versions/.new.*; do
        [ -d "$directory" ] || continue
        [ "${directory##*/}" = "$1" ] && continue
        used=
        for process in /proc/[0-9]*; do
            case $(readlink "$process/exe" 2>/dev/null) in
            "$directory"/*)
                used=${process#/proc/}
                break
                ;;
            esac
        done
        if [ -n "$used" ]; then
            say "kept: $directory, as process $used runs it. Restart the agent to use the new version"
        else
            rm -rf "$directory"
        fi
    done
}

is_ours() { # of a file: a link into our versions
    [ -L "$1" ] && case $(readlink "$1") in
    ../versions/*/bin/airside) true ;;
    *) false ;;
    esac
}

install_program() {
    if [ -e "$prefix/bin/airside" ] && ! is_ours "$prefix/bin/airside"; then
        fail "$prefix/bin/airside is not of this installer: remove the package airside first, or use --prefix"
    fi
    mkdir -p "$prefix/bin" "$prefix/versions" 2>/dev/null ||
        fail "$prefix cannot be written: run as its owner, or use --prefix"
    check_machine
    new=$prefix/versions/.new.$$
    trap 'rm -rf "$new"' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir "$new"
    unpack "$new"
    check_program "$new"
    final=$prefix/versions/$VERSION-$ID
    if [ -d "$final" ]; then # the same once more: its files may have been damaged
        old=$prefix/versions/.new.$$.old
        mv "$final" "$old"
        mv "$new" "$final"
        rm -rf "$old"
    else
        mv "$new" "$final"
    fi
    sed "${LINES}q" "$SELF" >"$prefix/uninstall.$$"
    mv -f "$prefix/uninstall.$$" "$prefix/uninstall"
    ln -s "../versions/${final##*/}/bin/airside" "$prefix/bin/.airside.$$"
    mv -f "$prefix/bin/.airside.$$" "$prefix/bin/airside" # from now on the new version starts
    trap - EXIT
    remove_others "${final##*/}"
}

install_link() {
    [ -n "$links" ] || return 0
    link=$links/airside
    if [ -L "$link" ] || [ ! -e "$link" ]; then
        mkdir -p "$links" && ln -sf "$prefix/bin/airside" "$link.$$" && mv -f "$link.$$" "$link"
    else
        say "note: $link is another file and was left"
    fi
}

install_pages() {
    [ -n "$pages" ] || return 0
    remove_pages
    for page in "$prefix/versions/${final##*/}"/share/man/man*/airside*.gz; do
        section=${page%/*}
        section=$pages/${section##*/}
        [ -L "$section/${page##*/}" ] || [ ! -e "$section/${page##*/}" ] || continue # of others
        mkdir -p "$section" && ln -sf "$page" "$section/${page##*/}" || return 0
    done
}

# The links to our pages, of whatever version.
remove_pages() {
    [ -n "$pages" ] || return 0
    for page in "$pages"/man1/airside* "$pages"/man5/airside*; do
        [ -L "$page" ] && case $(readlink "$page") in
        "$prefix"/versions/*) rm -f "$page" ;;
        esac
    done
    rmdir "$pages/man1" "$pages/man5" 2>/dev/null || true
    is_root || rmdir "$pages" 2>/dev/null || true
}

# The service of another version, or of files that were replaced, is to run the new ones.
restart_service() {
    has systemctl || return 0
    process=$(systemctl show --property MainPID --value airside.service 2>/dev/null) || return 0
    [ "${process:-0}" -gt 0 ] || return 0
    case $(readlink "/proc/$process/exe") in
    "$final/bin/airside") return 0 ;;
    esac
    systemctl restart airside.service && say "restarted: airside.service"
    remove_others "${final##*/}"
}

next_steps() {
    program=$(command -v airside || true)
    [ -n "$program" ] && [ "$(readlink -f "$program")" = "$(readlink -f "$prefix/bin/airside")" ] ||
        program=$prefix/bin/airside
    say "installed: $("$prefix/bin/airside" --version) in $prefix"
    if [ -n "$service" ]; then
        "$prefix/bin/airside" install "$service"
        restart_service
    elif is_root; then
        say "next, as a service, with mirror settings for containerd:"
        say "  $program install --systemd    (or --k3s, --rke2, --k0s, --microk8s; --dry-run shows it)"
    else
        say "next, in the foreground:"
        say "  mkdir -p ~/images && $program run --images ~/images --data ~/.local/share/airside/data"
        say "Publishing to containerd and the systemd service need root."
    fi
    say "to remove it: sh $prefix/uninstall"
}

# Removing.

# Whether the service and the mirror settings of the host are this program's.
serves_host() {
    [ -x "$prefix/bin/airside" ] || return 1
    [ "$prefix" = /opt/airside ] ||
        grep -qs "^ExecStart=$prefix/" "${AIRSIDE_HOST_ROOT:-}/etc/systemd/system/airside.service"
}

uninstall() {
    if [ ! -d "$prefix/versions" ]; then
        fail "$prefix has nothing that this installer installed"
    fi
    if is_root && serves_host; then
        "$prefix/bin/airside" uninstall $purge ||
            fail "\`airside uninstall\` failed, see above: the program was left"
    fi
    if [ -n "$links" ] && [ -L "$links/airside" ] && [ "$(readlink "$links/airside")" = "$prefix/bin/airside" ]; then
        rm -f "$links/airside"
    fi
    remove_pages
    rm -rf "$prefix/versions"
    if is_ours "$prefix/bin/airside"; then rm -f "$prefix/bin/airside"; fi
    rm -f "$prefix/uninstall"
    rmdir "$prefix/bin" "$prefix" 2>/dev/null || say "note: $prefix has other files, which were left"
    say "removed: $prefix"
}

case $action in
check)
    check
    say "$SELF: whole, sha256 $SUM"
    ;;
extract)
    check
    mkdir "$target" 2>/dev/null || fail "$target exists, or cannot be made"
    unpack "$target"
    say "extracted: $target/bin/airside"
    ;;
install)
    check
    install_program
    install_link
    install_pages
    next_steps
    ;;
uninstall) uninstall ;;
esac
exit 0
__PAYLOAD__
