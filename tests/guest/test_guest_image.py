"""The image that tools/guest builds boots, in both of its forms, without libvirt."""

import pytest

from tests.guest.stock import IMAGE, wait_until
from tests.sandbox import Sandbox

QEMU = ["qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-m", "128", "-display", "none", "-nic", "none", "-no-reboot"]


@pytest.mark.parametrize("form", ["disk", "kernel and initramfs"])
def test_the_guest_boots_until_it_is_ready(host: Sandbox, form: str) -> None:
    console = host.dir / "console.log"
    if form == "disk":
        host.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", IMAGE, "-F", "qcow2", "disk.qcow2", "256M"])
        boot = ["-drive", "file=disk.qcow2,if=virtio"]
    else:
        boot = ["-kernel", IMAGE.with_suffix(".vmlinuz"), "-initrd", IMAGE.with_suffix(".initrd"), "-append", "console=ttyS0 quiet"]
    host.popen([*QEMU, *boot, "-serial", f"file:{console}"])
    wait_until("GUEST: ready", lambda: console.exists() and "GUEST: ready" in console.read_text(errors="replace"), 100)
    text = console.read_text(errors="replace")
    assert ("GUEST: grew /dev/vda2" in text) == (form == "disk")
