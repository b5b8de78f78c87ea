#!/bin/bash
# Builds the two layers of the demo image from Debian packages: OUT_DIR/base.tar (a busybox userland) and
# OUT_DIR/app.tar (lighttpd and the libraries it loads). The same package versions give the same bytes.
#
# Needs apt, dpkg and GNU tar; no root. Packages are kept in $CARVE_CACHE_DIR/debs, so a second run downloads
# nothing.
set -euo pipefail
export LC_ALL=C
umask 022

if [ $# -ne 1 ]; then
    echo "usage: $0 OUT_DIR" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
debs=${CARVE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/carve}/debs
mkdir -p "$debs"
work=$(mktemp -d "$out/.demo.XXXXXX")
trap 'rm -rf "$work"' EXIT

die() {
    echo "$0: $*" >&2
    exit 1
}

# The library packages that lighttpd depends on, and those that they depend on.
library_packages() {
    apt-cache depends --recurse --important lighttpd | awk '
        /^[^ ]/ { from = $1 }
        /Depends: lib/ { needs[from] = needs[from] " " $NF }
        END {
            pending = "lighttpd"
            while (split(pending, names) > 0) {
                pending = ""
                for (i in names) {
                    count = split(needs[names[i]], found)
                    for (k = 1; k <= count; k++)
                        if (!(found[k] in known)) { known[found[k]]; pending = pending " " found[k] }
                }
            }
            for (name in known) print name
        }' | sort
}

# Makes sure that the cache has the versions of the packages $@ that apt would install.
fetch() {
    local file name
    local -a missing=()
    apt-get -q download --print-uris "$@" >"$work/uris" || die "apt does not know all of: $*; run: apt-get update"
    while read -r _ file _; do
        name=${file%%_*}
        [ -s "$debs/$file" ] || missing+=("$name")
        archives[$name]=$debs/$file
    done <"$work/uris"
    if [ ${#missing[@]} -gt 0 ]; then
        mkdir "$work/download"
        (cd "$work/download" && apt-get -q -o APT::Sandbox::User=root download "${missing[@]}" >&2) ||
            die "cannot download ${missing[*]}; run: apt-get update"
        mv "$work"/download/*.deb "$debs/"
    fi
}

unpack() {
    [ -n "${archives[$1]-}" ] || die "apt has no package $1"
    dpkg-deb -x "${archives[$1]}" "$2"
}

# Copies the files below $1 to $2, whatever modes the checkout gave them.
copy_files() {
    local file
    while read -r file; do
        install -D -m 644 "$1/$file" "$2/$file"
    done < <(cd "$1" && find . -type f)
}

# A tar that depends on the files' names, modes and contents only.
pack() {
    tar --create --file "$2.new" --directory "$1" --format=gnu --sort=name --numeric-owner --owner=0 --group=0 \
        --mtime="@${SOURCE_DATE_EPOCH:-1700000000}" .
    mv "$2.new" "$2"
}

build_base() {
    local root=$work/base applet
    mkdir -p "$root"/{bin,dev,etc,home,proc,run,srv,sys,usr/bin,usr/sbin,var/log}
    mkdir -m 700 "$root/root"
    mkdir -m 1777 "$root/tmp" "$root/var/tmp"
    unpack busybox-static "$work/busybox"
    unpack base-files "$work/base-files"
    cp "$work/busybox/bin/busybox" "$root/bin/" 2>/dev/null || cp "$work/busybox/usr/bin/busybox" "$root/bin/"
    for applet in $("$root/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln "$root/bin/busybox" "$root/bin/$applet"
    done
    cp "$work/base-files/usr/lib/os-release" "$root/etc/os-release"
    copy_files "$here/base" "$root"
    pack "$root" "$out/base.tar"
}

build_app() {
    local pool=$work/pool root=$work/app server=usr/sbin/lighttpd name library loader triplet
    unpack lighttpd "$pool"
    for name in "${libraries[@]}"; do
        unpack "$name" "$pool"
    done
    mkdir -p "$root/usr/sbin"
    cp "$pool/$server" "$root/$server"

    # The loader from the packages says which libraries the server loads, and from where.
    loader=$(find "$pool" -name 'ld-linux*.so.*' -type f -print -quit)
    [ -n "$loader" ] || die "libc6 holds no dynamic loader"
    triplet=$(basename "$(dirname "$loader")")
    mkdir -p "$root/lib/$triplet"
    "$loader" --inhibit-cache --library-path "$pool/lib/$triplet:$pool/usr/lib/$triplet" \
        --list "$pool/$server" >"$work/libraries" || die "a library that lighttpd needs is in none of its packages"
    while read -r library; do
        cp -L "$library" "$root/lib/$triplet/"
    done < <(sed -n "s|.*=> \($pool/[^ ]*\) .*|\1|p" "$work/libraries")
    # Programs name the loader by this path.
    cp "$loader" "$root/lib/$triplet/"
    mkdir -p "$root/lib64"
    ln -s "../lib/$triplet/$(basename "$loader")" "$root/lib64/$(basename "$loader")"

    copy_files "$here/app" "$root"
    # Without a cache the loader tries many directories for each library.
    PATH=$PATH:/sbin:/usr/sbin ldconfig -i -X -r "$root" "/lib/$triplet"
    rm -rf "$root/var"
    pack "$root" "$out/app.tar"
}

declare -A archives
mapfile -t libraries < <(library_packages)
[ ${#libraries[@]} -gt 0 ] || die "apt does not know the package lighttpd; run: apt-get update"
fetch busybox-static base-files lighttpd "${libraries[@]}"
build_base
build_app
