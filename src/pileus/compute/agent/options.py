"""Options of the compute agent: the part of `[compute]` that a host reads."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pileus.kernel.config import Doc


class AgentOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a host runs its servers. Times are seconds."""

    driver: Annotated[str, Doc('Hypervisor driver: "libvirt" or "fake"; `--simulate` means "fake".')] = "libvirt"
    libvirt_uri: Annotated[
        str, Doc("URI of libvirt. Empty: the host's own, or one that Pileus starts where there is none.")
    ] = ""
    virt_type: Annotated[
        str, Doc('"kvm", "qemu" (emulation), or "auto": KVM where a test guest really runs on it.')
    ] = "auto"
    cpu_model: Annotated[
        str, Doc("CPU model of guests, by libvirt's name; empty: the host's CPU under KVM, qemu64 otherwise.")
    ] = ""
    tb_cache_mb: Annotated[int, Doc("MiB of translated code that one emulated guest may keep.")] = 64
    vnc_address: Annotated[str, Doc("Address on which guests' screens are served by VNC.", own=True)] = "127.0.0.1"
    host_address: Annotated[str, Doc("Address of this host toward others; empty: that of its default route.", own=True)] = ""
    migration_port: Annotated[
        int, Doc("Port on which a host gives the disks of servers that leave it to the next host; 0: any free one.")
    ] = 0
    image_cache_seconds: Annotated[float, Doc("How long an image that no server uses stays on a host.")] = 86400.0
    report_seconds: Annotated[float, Doc("How often a host reports when nothing changes.")] = 10.0
    fake_vcpus: Annotated[int, Doc("CPUs of a host with the fake driver.")] = 1000
    fake_memory_mb: Annotated[int, Doc("MiB of memory of a host with the fake driver.")] = 800_000
    fake_local_gb: Annotated[int, Doc("GiB of disk of a host with the fake driver.")] = 600_000
    fake_latency: Annotated[
        dict[str, float], Doc("Seconds that calls of the fake driver take, by name: create, start, ...")
    ] = {}
    fake_failures: Annotated[
        dict[str, str], Doc("Sentences with which calls of the fake driver fail, by name: create, start, ...")
    ] = {}
