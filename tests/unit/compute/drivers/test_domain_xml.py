"""The definition of a guest."""

from __future__ import annotations

import pathlib
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("libvirt", reason="needs libvirt's bindings (extra [host])")

from pileus.compute.drivers.base import ImageRefused
from pileus.compute.drivers.domain_xml import Disk, Machine, render
from pileus.host.libvirt import MARK_URI
from tests.contracts.compute_servers import Images, server

MACHINE = Machine(
    mark="/home/of/ours", kvm=False, cpu_model="qemu64", tb_cache_mb=64, vnc_address="127.0.0.1", disk_cache="none",
    disks=[Disk(pathlib.Path("/i/disk"), "qcow2"), Disk(pathlib.Path("/i/disk.swap"), "raw")], console_log=pathlib.Path("/i/console.log"),
)


def rendered(properties: dict[str, Any] | None = None, specs: dict[str, str] | None = None, machine: Machine = MACHINE,
             disk_format: str = "qcow2", vcpus: int = 1, **changes: Any) -> ET.Element:
    image = Images().add(b"x", disk_format, **(properties or {}))
    doc = server(image, flavor={"extra_specs": specs or {}, "vcpus": vcpus}, **changes)
    return ET.fromstring(render(doc, machine))


def test_a_guest_is_named_marked_and_bounded() -> None:
    domain = rendered(name="we\x00b <&>", id="0f8fad5b-d9cb-469f-a165-70867728950e")
    assert domain.get("type") == "qemu"
    assert domain.findtext("name") == "instance-0f8fad5b"
    assert domain.findtext("uuid") == "0f8fad5b-d9cb-469f-a165-70867728950e"
    mark = domain.find(f"./metadata/{{{MARK_URI}}}server")
    assert mark.get("home") == "/home/of/ours"
    assert mark.findtext(f"{{{MARK_URI}}}name") == "we b <&>"
    assert domain.findtext("memory") == "128"
    assert domain.findtext("features/tcg/tb-cache") == "64"
    assert domain.findtext("cpu/model") == "qemu64"


def test_guests_see_that_they_run_on_openstack() -> None:
    entries = {entry.get("name"): entry.text for entry in rendered().findall("sysinfo/system/entry")}
    assert entries["product"] == "OpenStack Compute"
    assert entries["manufacturer"] == "OpenStack Foundation"


def test_disks_and_config_drive_have_places_of_their_own() -> None:
    machine = replace(MACHINE, config_drive=pathlib.Path("/i/disk.config"))
    for properties, places in (
        ({}, ["vda", "vdb", "hda"]),
        ({"hw_disk_bus": "ide"}, ["hda", "hdb", "hdc"]),
        ({"hw_disk_bus": "scsi"}, ["sda", "sdb", "hda"]),
        ({"hw_machine_type": "q35"}, ["vda", "vdb", "vdc"]),
        ({"hw_disk_bus": "scsi", "hw_cdrom_bus": "sata"}, ["sda", "sdb", "sdc"]),
    ):
        domain = rendered(properties, machine=machine)
        assert [target.get("dev") for target in domain.findall("devices/disk/target")] == places
        assert domain.find("devices/disk[3]/readonly") is not None


def test_an_iso_image_is_a_cdrom_that_boots_first() -> None:
    domain = rendered(disk_format="iso", machine=replace(MACHINE, config_drive=pathlib.Path("/i/c"), disks=MACHINE.disks[:1]))
    assert [disk.get("device") for disk in domain.findall("devices/disk")] == ["cdrom", "cdrom"]
    assert [target.get("dev") for target in domain.findall("devices/disk/target")] == ["hda", "hdb"]
    assert domain.find("os/boot").get("dev") == "cdrom"


def test_a_network_card_hangs_on_its_tap() -> None:
    domain = rendered(nics=2)
    for interface in domain.findall("devices/interface"):
        assert re.fullmatch(r"tap[0-9a-f-]{11}", interface.find("target").get("dev"))
        assert interface.find("target").get("managed") == "no"
        assert interface.find("mtu").get("size") == "1450"
        assert interface.find("model").get("type") == "virtio"
    assert len(domain.findall("devices/interface")) == 2


def test_a_kernel_of_its_own_is_booted_with_a_command_line() -> None:
    machine = replace(MACHINE, kernel=pathlib.Path("/k"), ramdisk=pathlib.Path("/r"))
    system = rendered(machine=machine).find("os")
    assert (system.findtext("kernel"), system.findtext("initrd")) == ("/k", "/r")
    assert system.findtext("cmdline") == "root=/dev/vda console=tty0 console=ttyS0"
    assert rendered({"os_command_line": "quiet"}, machine=machine).findtext("os/cmdline") == "quiet"


def test_properties_and_extra_specs_take_effect() -> None:
    domain = rendered(
        {"hw_machine_type": "q35", "hw_vif_model": "e1000", "hw_video_model": "virtio", "hw_firmware_type": "uefi", "hw_qemu_guest_agent": "yes",
         "hw_watchdog_action": "reset"},
        {"quota:cpu_shares": "512", "quota:disk_write_bytes_sec": "1048576", "hw:watchdog_action": "poweroff"},
    )
    assert domain.find("os/type").get("machine") == "q35"
    assert domain.find("os").get("firmware") == "efi"
    assert domain.find("devices/interface/model").get("type") == "e1000"
    assert domain.find("devices/video/model").get("type") == "virtio"
    assert domain.find("devices/channel/target").get("name") == "org.qemu.guest_agent.0"
    assert domain.find("devices/watchdog").get("action") == "poweroff"
    assert domain.findtext("cputune/shares") == "512"
    assert domain.findtext("devices/disk/iotune/write_bytes_sec") == "1048576"


@pytest.mark.parametrize(
    ("specs", "shape"),
    [({}, ("4", "1", "1")), ({"hw:cpu_sockets": "1"}, ("1", "4", "1")), ({"hw:cpu_cores": "2"}, ("2", "2", "1")),
     ({"hw:cpu_sockets": "1", "hw:cpu_threads": "2"}, ("1", "2", "2"))],
)
def test_the_topology_is_as_asked(specs: dict[str, str], shape: tuple[str, ...]) -> None:
    topology = rendered(specs=specs, vcpus=4).find("cpu/topology")
    assert (topology.get("sockets"), topology.get("cores"), topology.get("threads")) == shape


@pytest.mark.parametrize(
    ("properties", "specs"),
    [({"hw_disk_bus": "floppy"}, {}), ({"hw_vif_model": "x"}, {}), ({"hw_video_model": "x"}, {}), ({"hw_firmware_type": "x"}, {}),
     ({"hw_watchdog_action": "x"}, {}), ({}, {"quota:cpu_shares": "many"}), ({}, {"hw:cpu_cores": "3"}), ({}, {"quota:disk_read_iops_sec": "-1"})],
)
def test_what_the_machine_cannot_have_is_refused(properties: dict[str, str], specs: dict[str, str]) -> None:
    with pytest.raises(ImageRefused):
        rendered(properties, specs, vcpus=4)


def test_kvm_guests_get_the_hosts_cpu() -> None:
    domain = rendered(machine=replace(MACHINE, kvm=True, cpu_model="host"))
    assert domain.get("type") == "kvm"
    assert domain.find("cpu").get("mode") == "host-passthrough"
    assert domain.find("features/tcg") is None
