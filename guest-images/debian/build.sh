#!/bin/bash
# Makes what `carve vm boot` needs to boot Debian's own kernel, without installing anything: OUT_DIR/vmlinuz and
# OUT_DIR/initramfs.cpio, which loads the virtio modules and starts a shell on the console.
#
# Needs apt, dpkg and cpio; no root. Packages are kept in $CARVE_CACHE_DIR/debs, so a second run downloads nothing.
# PACKAGE is the kernel's (linux-image-cloud-amd64 by default), MODULES what is loaded.
set -euo pipefail
export LC_ALL=C
umask 022

if [ $# -ne 1 ]; then
    echo "usage: [PACKAGE=NAME] [MODULES='NAME …'] $0 OUT_DIR" >&2
    exit 2
fi
package=${PACKAGE:-linux-image-cloud-amd64}
modules=${MODULES:-virtio_mmio virtio_blk virtio_net virtio_rng ext4}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
debs=${CARVE_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/carve}/debs
mkdir -p "$debs"
work=$(mktemp -d "$out/.debian.XXXXXX")
trap 'rm -rf "$work"' EXIT

die() {
    echo "$0: $*" >&2
    exit 1
}

# Unpacks the version of package $1 that apt would install into $2.
unpack() {
    local file
    file=$(apt-get -q download --print-uris "$1" | awk '{ print $2 }') && [ -n "$file" ] ||
        die "apt does not know $1; run: apt-get update"
    if [ ! -s "$debs/$file" ]; then
        mkdir -p "$work/download"
        (cd "$work/download" && apt-get -q -o APT::Sandbox::User=root download "$1" >&2) ||
            die "cannot download $1; run: apt-get update"
        mv "$work/download"/*.deb "$debs/"
    fi
    dpkg-deb -x "$debs/$file" "$2"
}

# The package that holds the kernel: what the metapackage depends on, or itself.
kernel_package() {
    local image
    image=$(apt-cache depends --important "$1" | awk '/Depends: linux-image-/ { print $2; exit }')
    echo "${image:-$1}"
}

# The file of module $1, whose name may have dashes where others write underscores.
module_file() {
    find "$tree/lib/modules" -regex ".*/$(echo "$1" | sed 's/[-_]/[-_]/g')\.ko\(\.xz\|\.zst\)?" -print -quit
}

# Copies module $1 after those that it needs, and adds it to the list of those to be loaded. What is built in is passed over.
add_module() {
    local name=${1//-/_} file needed
    case " ${added-} " in *" $name "*) return ;; esac
    added="${added-} $name"
    file=$(module_file "$name")
    if [ -z "$file" ]; then
        grep -q "/$(echo "$name" | sed 's/_/[-_]/g')\.ko$" "$tree"/lib/modules/*/modules.builtin ||
            die "$package has no module $name"
        return
    fi
    case $file in
        *.xz) xz -dc "$file" >"$root/modules/$name.ko" ;;
        *.zst) zstd -qdc "$file" >"$root/modules/$name.ko" ;;
        *) cp "$file" "$root/modules/$name.ko" ;;
    esac
    for needed in $(tr '\0' '\n' <"$root/modules/$name.ko" | sed -n 's/^depends=//p' | tr ',' ' '); do
        add_module "$needed"
    done
    echo "$name" >>"$root/modules/order"
}

tree=$work/kernel root=$work/root
unpack "$(kernel_package "$package")" "$tree"
unpack busybox-static "$work/busybox"
mkdir -p "$root"/{bin,dev,proc,sys,mnt,modules}
cp "$work"/busybox/bin/busybox "$root/bin/" 2>/dev/null || cp "$work"/busybox/usr/bin/busybox "$root/bin/"
install -m 755 "$here/init" "$root/init"
for module in $modules; do
    add_module "$module"
done
(cd "$root" && find . | sort | cpio --quiet -o -H newc) >"$out/initramfs.cpio.new"
cp "$tree"/boot/vmlinuz-* "$out/vmlinuz.new"
for file in initramfs.cpio vmlinuz; do
    mv "$out/$file.new" "$out/$file"
done
