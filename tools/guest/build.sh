#!/bin/bash
# Builds the small test guest out of Debian packages that are unpacked into a directory and never installed: a kernel or
# a package with a daemon has no place on the host. Needs no root, no loop device, no mount; qemu-img must be on the host.
# usage: build.sh OUTDIR [CACHEDIR]     (see README.md)
set -euo pipefail
umask 022
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh OUTDIR [CACHEDIR]}
mkdir -p "$out"; out=$(cd "$out" && pwd)
cache=${2:-$out/cache}
disk_mb=${DISK_MB:-64}          # virtual size of the disk image
efi=${EFI:-0}                    # 1: also bootable by UEFI firmware (+18 MB)
boot_mb=${BOOT_MB:-$((efi ? 44 : 24))}   # FAT partition with syslinux, kernel, initramfs
[ "$efi" = 0 ] || disk_mb=$((disk_mb + 20))
modules="virtio_pci virtio_blk virtio_net virtio_scsi virtio_console virtio_balloon virtio-rng
 sd_mod sr_mod ata_piix ahci isofs evdev vfat nls_ascii nls_cp437 button 8021q"
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

# What the image is made of, and the tools that make it, each with the libraries it needs beyond libc.
contents="busybox-static dropbear-bin libtomcrypt1 libtommath1 libgmp10 libcrypt1 zlib1g
 e2fsprogs libext2fs2 libcom-err2 libss2 libblkid1 libuuid1"
tools="kmod libkmod2 liblzma5 libzstd1 libssl3 cpio fdisk libfdisk1 libsmartcols1 libreadline8 libtinfo6 libncursesw6 syslinux syslinux-common mtools"
[ "$efi" = 0 ] || tools="$tools systemd-boot-efi binutils libbinutils libctf0 libctf-nobfd0 binutils-x86-64-linux-gnu libgprofng0 libjansson4"

# the kernel's meta package names the package of the current version
newest_kernel() {
    apt-cache show --no-all-versions linux-image-cloud-amd64 | sed -n 's/^Depends: *\(linux-image-[^ ,]*\).*/\1/p' | head -n 1
}
kernel_package=${KERNEL_PACKAGE:-$(newest_kernel)}
[ -n "$kernel_package" ] || { echo "build.sh: apt knows no linux-image-cloud-amd64; run apt-get update as root first" >&2; exit 1; }
kver=${kernel_package#linux-image-}

# fetch PACKAGE...: newest .deb of each into the cache, then unpack all of them below $sys
sys=$work/sys; mkdir -p "$sys" "$cache"; cache=$(cd "$cache" && pwd)
fetch() {
    (cd "$cache" && apt-get -q -q -o APT::Sandbox::User=root download "$@" >&2)
    local p newest
    for p in "$@"; do
        newest=$(ls -t "$cache/${p}"_*.deb | head -n 1)
        dpkg-deb -x "$newest" "$sys"
    done
}
fetch "$kernel_package" $contents $tools
# Debian before and after the merge of / and /usr: one place for programs, one for libraries
export PATH=$sys/sbin:$sys/usr/sbin:$sys/bin:$sys/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin
libs=$sys/lib/x86_64-linux-gnu:$sys/usr/lib/x86_64-linux-gnu
with_libs() { LD_LIBRARY_PATH=$libs "$@"; }
kernel=$sys/boot/vmlinuz-$kver
[ -d "$sys/lib/modules/$kver" ] || { mkdir -p "$sys/lib/modules"; mv "$sys/usr/lib/modules/$kver" "$sys/lib/modules/"; }
with_libs "$sys/sbin/depmod" -b "$sys" "$kver"

root=$work/root
mkdir -p "$root"/{bin,sbin,dev,proc,sys,run,tmp,mnt,root/.ssh,home/guest/.ssh,etc/dropbear,var/log,var/lib/guest,var/www,lib64,usr/bin,usr/sbin,lib/modules/$kver,newroot}

busybox=$sys/bin/busybox; [ -e "$busybox" ] || busybox=$sys/usr/bin/busybox
install -m755 "$busybox" "$root/bin/busybox"
for a in $("$busybox" --list); do [ "$a" = busybox ] || ln -s busybox "$root/bin/$a"; done

copy_elf() {            # a program out of the unpacked packages, and the shared libraries it names
    install -D -m755 "$sys/$1" "$root/$2"
    with_libs ldd "$sys/$1" | awk '$3 ~ /^\//{print $3} $1 ~ /^\//{print $1}' | while read -r lib; do
        install -D -m755 "$lib" "$root/lib64/$(basename "$lib")"; done
}
copy_elf usr/sbin/dropbear     usr/sbin/dropbear
copy_elf usr/bin/dropbearkey   usr/bin/dropbearkey
copy_elf sbin/resize2fs        usr/sbin/resize2fs
mkdir -p "$root/lib/x86_64-linux-gnu"
mv "$root"/lib64/*.so.* "$root/lib/x86_64-linux-gnu/"
mv "$root"/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$root/lib64/"

# kmod's multi-call program decides by its name; the unpacked symbolic link keeps it
for m in $modules; do
    with_libs "$sys/sbin/modprobe" -d "$sys" -S "$kver" --show-depends "$m" 2>/dev/null | awk '$1=="insmod"{print $2}' || true
done | awk '!seen[$0]++' > "$work/modlist"
: > "$root/etc/modules.order"
while read -r ko; do
    cp "$ko" "$root/lib/modules/$kver/"; basename "$ko" >> "$root/etc/modules.order"
done < "$work/modlist"
grep -q '^virtio_net' "$root/etc/modules.order" || { echo "build.sh: no virtio_net module in $kernel_package" >&2; exit 1; }

cp -R "$here/files/." "$root/"
chmod -R u+rwX,go+rX,go-w "$root"
chmod 755 "$root/init" "$root/sbin/guest-init" "$root/sbin/guest-cloud" "$root/etc/udhcpc.script" "$root/etc/acpi/PWRF/00000080"
chmod 600 "$root/etc/shadow"
chmod 700 "$root/root" "$root/root/.ssh" "$root/home/guest/.ssh"
ln -sf /proc/mounts "$root/etc/mtab"

# (a) kernel + initramfs; the initramfs alone is a complete system in RAM
cp "$kernel" "$work/guest.vmlinuz"
(cd "$root" && find . | LC_ALL=C sort | "$sys/bin/cpio" --quiet -o -H newc -R 0:0) | gzip -9n > "$work/guest.initrd"

# root file system image (the "ami" part), label guestroot
rm -rf "$root/newroot"
fs_mb=$((disk_mb - boot_mb - 1))
asroot=; [ "$(id -u)" = 0 ] || asroot="unshare -r"      # files in the image belong to uid 0
with_libs $asroot "$sys/sbin/mke2fs" -q -F -t ext4 -L guestroot -O ^has_journal,^metadata_csum -m 0 -N 4096 \
    -E root_owner=0:0 -d "$root" "$work/guest.rootfs.ext4" ${fs_mb}M >/dev/null

# (b) one bootable disk: MBR, FAT (syslinux + optional EFI loader) + ext4
disk=$work/disk.raw
truncate -s ${disk_mb}M "$disk"
boot_s=2048; boot_n=$((boot_mb*2048 - 2048)); root_s=$((boot_mb*2048)); root_n=$((fs_mb*2048))
printf 'label: dos\nstart=%d,size=%d,type=ef,bootable\nstart=%d,size=%d,type=83\n' $boot_s $boot_n $root_s $root_n |
    with_libs "$sys/sbin/sfdisk" -q "$disk"
dd if="$sys/usr/lib/syslinux/mbr/mbr.bin" of="$disk" bs=440 count=1 conv=notrunc status=none
mformat -i "$disk@@$((boot_s*512))" -T $boot_n -h 16 -s 63 -H $boot_s -v GUESTBOOT ::
cat > "$work/syslinux.cfg" <<CFG
SERIAL 0 115200
DEFAULT guest
PROMPT 0
TIMEOUT 1
LABEL guest
  LINUX /vmlinuz
  INITRD /initrd
  APPEND root=LABEL=guestroot console=tty1 console=ttyS0 quiet
CFG
mcopy -i "$disk@@$((boot_s*512))" "$kernel" ::/vmlinuz
mcopy -i "$disk@@$((boot_s*512))" "$work/guest.initrd" ::/initrd
mcopy -i "$disk@@$((boot_s*512))" "$work/syslinux.cfg" ::/syslinux.cfg
syslinux --offset $((boot_s*512)) --install "$disk"
if [ "$efi" = 1 ]; then          # unified kernel image
    printf 'root=LABEL=guestroot console=tty1 console=ttyS0 quiet' > "$work/cmdline"
    with_libs objcopy --add-section .cmdline="$work/cmdline" --change-section-vma .cmdline=0x30000 \
            --add-section .linux="$kernel" --change-section-vma .linux=0x2000000 \
            --add-section .initrd="$work/guest.initrd" --change-section-vma .initrd=0x4000000 \
            "$sys/usr/lib/systemd/boot/efi/linuxx64.efi.stub" "$work/uki.efi"
    mmd -i "$disk@@$((boot_s*512))" ::/EFI ::/EFI/BOOT
    mcopy -i "$disk@@$((boot_s*512))" "$work/uki.efi" ::/EFI/BOOT/BOOTX64.EFI
fi
dd if="$work/guest.rootfs.ext4" of="$disk" bs=1M seek=$boot_mb conv=notrunc,sparse status=none
qemu-img convert -q -f raw -O qcow2 -c "$disk" "$work/guest.qcow2"

# complete or not at all: whoever sees guest.qcow2 sees a whole image
for f in guest.vmlinuz guest.initrd guest.rootfs.ext4 guest.qcow2; do cp "$work/$f" "$out/.$f.new"; mv "$out/.$f.new" "$out/$f"; done
ls -l "$out"/guest.* | awk '{printf "%8.1f MB  %s\n", $5/1e6, $NF}'
