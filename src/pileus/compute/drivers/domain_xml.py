"""The libvirt definition of a server: one pure function from what is known to XML.

Image properties (`hw_*`, `os_command_line`) and flavor extra specs (`hw:*`, `quota:*`) that shape the machine are read here, by upstream's names; a value
that this machine cannot have is refused with a sentence, never dropped.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from pileus.compute.drivers.base import ImageRefused
from pileus.compute.wire import NicDoc, ServerDoc
from pileus.host.libvirt import MARK_PREFIX, MARK_URI

_DISK_BUSES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd"}
_NIC_MODELS = ("virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3")
_VIDEO_MODELS = ("cirrus", "vga", "virtio", "qxl", "vmvga", "bochs", "none")
_WATCHDOG_ACTIONS = ("disabled", "reset", "poweroff", "pause", "none")
_FIRMWARE = ("bios", "uefi")
_CPU_TUNE = {"quota:cpu_shares": "shares", "quota:cpu_period": "period", "quota:cpu_quota": "quota"}
_DISK_TUNE = tuple(f"{way}_{what}_sec" for way in ("read", "write", "total") for what in ("bytes", "iops"))


@dataclass(frozen=True)
class Disk:
    """A disk file as the guest gets it."""

    path: pathlib.Path
    format: str


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the host adds to a server's document. `cpu_model` "host" hands the host's CPU through (KVM only); `tb_cache_mb` bounds TCG's memory."""

    mark: str
    kvm: bool
    cpu_model: str
    tb_cache_mb: int
    vnc_address: str
    disk_cache: str
    disks: Sequence[Disk]
    console_log: pathlib.Path
    config_drive: pathlib.Path | None = None
    kernel: pathlib.Path | None = None
    ramdisk: pathlib.Path | None = None


def name_of(server_id: str) -> str:
    """How libvirt calls the domain of a server."""
    return f"instance-{server_id[:8]}"


def render(doc: ServerDoc, machine: Machine) -> str:
    """The XML; ImageRefused when a property asks for what there is not."""
    domain = ET.Element("domain", type="kvm" if machine.kvm else "qemu")
    _text(domain, "name", name_of(doc.id))
    _text(domain, "uuid", doc.id)
    _describe(domain, doc, machine.mark)
    _text(domain, "memory", str(doc.flavor.memory_mb), unit="MiB")
    _text(domain, "vcpu", str(doc.flavor.vcpus))
    _tune_cpu(domain, doc)
    _smbios(domain, doc)
    board = _operating_system(domain, doc, machine)
    _features(domain, machine)
    _cpu(domain, doc, machine)
    clock = ET.SubElement(domain, "clock", offset="utc")
    for timer, policy in (("pit", "delay"), ("rtc", "catchup")):
        ET.SubElement(clock, "timer", name=timer, tickpolicy=policy)
    ET.SubElement(clock, "timer", name="hpet", present="no")
    for event, then in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(domain, event, then)
    _devices(ET.SubElement(domain, "devices"), doc, machine, board)
    return ET.tostring(domain, encoding="unicode")


def _describe(domain: ET.Element, doc: ServerDoc, mark: str) -> None:
    """Who owns the domain; `home` is how an installation knows its own."""
    ET.register_namespace(MARK_PREFIX, MARK_URI)
    entry = ET.SubElement(ET.SubElement(domain, "metadata"), f"{{{MARK_URI}}}server", home=mark)
    shown = (("name", doc.name), ("project", doc.project_id), ("user", doc.user_id), ("flavor", doc.flavor.name))
    for tag, value in shown:
        _text(entry, f"{{{MARK_URI}}}{tag}", _printable(value))


def _tune_cpu(domain: ET.Element, doc: ServerDoc) -> None:
    wanted = {tag: doc.flavor.extra_specs[key] for key, tag in _CPU_TUNE.items() if key in doc.flavor.extra_specs}
    if wanted:
        tune = ET.SubElement(domain, "cputune")
        for tag, value in wanted.items():
            _text(tune, tag, str(_whole(f"quota:cpu_{tag}", value)))


def _smbios(domain: ET.Element, doc: ServerDoc) -> None:
    """What guests read to learn that they run on OpenStack; cloud-init looks at the product name."""
    system = ET.SubElement(ET.SubElement(domain, "sysinfo", type="smbios"), "system")
    for entry, value in (
        ("manufacturer", "OpenStack Foundation"),
        ("product", "OpenStack Compute"),
        ("version", "Pileus"),
        ("serial", doc.id),
        ("uuid", doc.id),
        ("family", "Virtual Machine"),
    ):
        _text(system, "entry", value, name=entry)


def _operating_system(domain: ET.Element, doc: ServerDoc, machine: Machine) -> str:
    """Board, firmware and what is booted; returns the board's type."""
    properties = _properties(doc)
    board = str(properties.get("hw_machine_type", "pc"))
    firmware = _chosen("hw_firmware_type", properties.get("hw_firmware_type", "bios"), _FIRMWARE)
    system = ET.SubElement(domain, "os", {"firmware": "efi"} if firmware == "uefi" else {})
    _text(system, "type", "hvm", arch="x86_64", machine=board)
    if machine.kernel is not None:
        _text(system, "kernel", str(machine.kernel))
        if machine.ramdisk is not None:
            _text(system, "initrd", str(machine.ramdisk))
        root = _target(_disk_bus(doc), 0)
        line = str(properties.get("os_command_line", f"root=/dev/{root} console=tty0 console=ttyS0"))
        _text(system, "cmdline", line)
    if _image_format(doc) == "iso":
        ET.SubElement(system, "boot", dev="cdrom")
    ET.SubElement(system, "boot", dev="hd")
    ET.SubElement(system, "smbios", mode="sysinfo")
    return board


def _features(domain: ET.Element, machine: Machine) -> None:
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if not machine.kvm:
        _text(ET.SubElement(features, "tcg"), "tb-cache", str(machine.tb_cache_mb), unit="MiB")


def _cpu(domain: ET.Element, doc: ServerDoc, machine: Machine) -> None:
    if machine.cpu_model == "host":
        cpu = ET.SubElement(domain, "cpu", mode="host-passthrough", check="none")
    elif machine.cpu_model == "max":
        cpu = ET.SubElement(domain, "cpu", mode="maximum", check="none")
    else:
        cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", machine.cpu_model)
    sockets, cores, threads = _topology(doc)
    ET.SubElement(cpu, "topology", sockets=str(sockets), dies="1", cores=str(cores), threads=str(threads))


def _topology(doc: ServerDoc) -> tuple[int, int, int]:
    """Sockets, cores, threads: what flavor or image say, all CPUs as sockets otherwise."""
    properties, specs = _properties(doc), doc.flavor.extra_specs
    asked: dict[str, int] = {}
    for part in ("sockets", "cores", "threads"):
        value = specs.get(f"hw:cpu_{part}", properties.get(f"hw_cpu_{part}"))
        if value is not None:
            asked[part] = _whole(f"hw:cpu_{part}", value)
    threads = asked.get("threads", 1)
    cores = asked.get("cores", doc.flavor.vcpus // (asked["sockets"] * threads) if "sockets" in asked else 1)
    sockets = asked.get("sockets", doc.flavor.vcpus // max(cores * threads, 1))
    if sockets * cores * threads != doc.flavor.vcpus:
        raise ImageRefused(
            f"{sockets} sockets, {cores} cores and {threads} threads do not make the flavor's {doc.flavor.vcpus} CPUs."
        )
    return sockets, cores, threads


def _devices(devices: ET.Element, doc: ServerDoc, machine: Machine, board: str) -> None:
    properties = _properties(doc)
    first_is_cdrom = _image_format(doc) == "iso"
    for index in range(len(machine.disks)):
        _disk(devices, doc, machine, index, cdrom=first_is_cdrom and index == 0)
    if machine.config_drive is not None:
        _config_drive(devices, doc, machine, board)
    if _disk_bus(doc) == "scsi":
        ET.SubElement(devices, "controller", type="scsi", model="virtio-scsi")
    ET.SubElement(devices, "controller", type="usb", model="none")  # its polling costs an idle guest more than all else
    for nic in doc.nics:
        _interface(devices, nic, properties)
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=str(machine.console_log), append="on")
    ET.SubElement(serial, "target", port="0")
    if str(properties.get("hw_qemu_guest_agent", "no")).lower() in {"yes", "true", "1", "on"}:
        channel = ET.SubElement(devices, "channel", type="unix")
        ET.SubElement(channel, "source", mode="bind")
        ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    graphics = ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes", listen=machine.vnc_address)
    ET.SubElement(graphics, "listen", type="address", address=machine.vnc_address)
    video = _chosen("hw_video_model", properties.get("hw_video_model", "cirrus"), _VIDEO_MODELS)
    ET.SubElement(ET.SubElement(devices, "video"), "model", type=video)
    ET.SubElement(ET.SubElement(devices, "memballoon", model="virtio"), "stats", period="10")
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    _watchdog(devices, doc)


def _disk(devices: ET.Element, doc: ServerDoc, machine: Machine, index: int, *, cdrom: bool) -> None:
    disk = machine.disks[index]
    device = ET.SubElement(devices, "disk", type="file", device="cdrom" if cdrom else "disk")
    driver = ET.SubElement(device, "driver", name="qemu", type=disk.format, cache=machine.disk_cache)
    if not cdrom:
        driver.set("discard", "unmap")
    ET.SubElement(device, "source", file=str(disk.path))
    used = "ide" if cdrom else _disk_bus(doc)
    ET.SubElement(device, "target", dev=_target(used, index), bus=used)
    limits = {
        tag: doc.flavor.extra_specs[f"quota:disk_{tag}"]
        for tag in _DISK_TUNE
        if f"quota:disk_{tag}" in doc.flavor.extra_specs
    }
    if limits and not cdrom:
        tune = ET.SubElement(device, "iotune")
        for tag, value in limits.items():
            _text(tune, tag, str(_whole(f"quota:disk_{tag}", value)))


def _config_drive(devices: ET.Element, doc: ServerDoc, machine: Machine, board: str) -> None:
    """A CD-ROM where the board has an IDE controller, a read-only virtio disk elsewhere: common kernels have no driver for q35's SATA."""
    has_ide = board == "pc" or board.startswith("pc-i440fx")
    bus = str(_properties(doc).get("hw_cdrom_bus", "ide" if has_ide else "virtio"))
    _chosen("hw_cdrom_bus", bus, tuple(_DISK_BUSES))
    device = ET.SubElement(devices, "disk", type="file", device="disk" if bus == "virtio" else "cdrom")
    ET.SubElement(device, "driver", name="qemu", type="raw", cache=machine.disk_cache)
    ET.SubElement(device, "source", file=str(machine.config_drive))
    taken = len(machine.disks)
    shared = _DISK_BUSES[bus] == _DISK_BUSES[_disk_bus(doc)] or (bus == "ide" and _image_format(doc) == "iso")
    ET.SubElement(device, "target", dev=_target(bus, taken if shared else 0), bus=bus)
    ET.SubElement(device, "readonly")


def _interface(devices: ET.Element, nic: NicDoc, properties: Mapping[str, object]) -> None:
    interface = ET.SubElement(devices, "interface", type="ethernet")
    ET.SubElement(interface, "mac", address=nic.mac)
    ET.SubElement(interface, "target", dev=nic.tap, managed="no")
    model = _chosen("hw_vif_model", properties.get("hw_vif_model", "virtio"), _NIC_MODELS)
    ET.SubElement(interface, "model", type=model)
    ET.SubElement(interface, "mtu", size=str(nic.mtu))


def _watchdog(devices: ET.Element, doc: ServerDoc) -> None:
    asked = doc.flavor.extra_specs.get("hw:watchdog_action", _properties(doc).get("hw_watchdog_action", "disabled"))
    action = _chosen("hw_watchdog_action", asked, _WATCHDOG_ACTIONS)
    if action != "disabled":
        ET.SubElement(devices, "watchdog", model="i6300esb", action=action)


def _disk_bus(doc: ServerDoc) -> str:
    return _chosen("hw_disk_bus", _properties(doc).get("hw_disk_bus", "virtio"), tuple(_DISK_BUSES))


def _target(bus: str, index: int) -> str:
    """vda, vdb, ...; the letter sequence depends on the bus."""
    return _DISK_BUSES[bus] + chr(ord("a") + index)


def _image_format(doc: ServerDoc) -> str:
    return "" if doc.image is None else doc.image.disk_format


def _properties(doc: ServerDoc) -> Mapping[str, object]:
    return {} if doc.image is None else doc.image.properties


def _chosen(name: str, value: object, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ImageRefused(f"{name} is '{value}'; this host has {', '.join(allowed)}.")
    return str(value)


def _whole(name: str, value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number <= 0:
        raise ImageRefused(f"{name} is '{value}'; it must be a positive whole number.")
    return number


def _printable(value: str) -> str:
    """XML 1.0 knows no control characters, names of servers may hold some."""
    return "".join(character if character.isprintable() else " " for character in value)


def _text(parent: ET.Element, tag: str, value: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = value
