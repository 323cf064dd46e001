"""What a host is: CPU, memory, disk, uptime, address. Read each time from the kernel and from libvirt's capabilities."""

from __future__ import annotations

import pathlib
import shutil
import socket
from typing import Any
from xml.etree import ElementTree as ET


def cpu_info(capabilities: ET.Element) -> dict[str, Any]:
    """The host's CPU in the form of the API's `cpu_info`, from libvirt's capabilities."""
    cpu = capabilities.find("./host/cpu")
    if cpu is None:
        return {}
    topology = cpu.find("topology")
    cells = capabilities.findall("./host/topology/cells/cell")
    shape: dict[str, int] = {"cells": max(len(cells), 1)}
    if topology is not None:
        shape |= {part: int(topology.get(part, "1")) for part in ("sockets", "cores", "threads")}
    return {
        "arch": cpu.findtext("arch", ""),
        "model": cpu.findtext("model", ""),
        "vendor": cpu.findtext("vendor", ""),
        "features": sorted(feature.get("name", "") for feature in cpu.findall("feature")),
        "topology": shape,
    }


def memory() -> tuple[int, int]:
    """MiB of memory in all, and how much of it could be given to new processes."""
    fields: dict[str, int] = {}
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0])
    return fields["MemTotal"] // 1024, fields["MemAvailable"] // 1024


def disk_space(directory: pathlib.Path) -> tuple[int, int]:
    """Bytes in all and free of the file system that holds the directory."""
    usage = shutil.disk_usage(directory)
    return usage.total, usage.free


def uptime() -> str:
    """How long the host is up and how busy it is, as the `uptime` command writes it, without the time of day."""
    seconds = int(float(pathlib.Path("/proc/uptime").read_text().split()[0]))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    load = ", ".join(pathlib.Path("/proc/loadavg").read_text().split()[:3])
    return f"up {days} days, {hours:2d}:{minutes:02d},  0 users,  load average: {load}"


def own_address() -> str:
    """The address from which this host would reach others; loopback where it has no route. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address: only the route is looked up
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
