"""What compute's controller and a host's compute agent say to each other.

Plain values only: both sides import this module, it imports neither. `to_dict` gives what the bus carries (msgpack-able builtins), `from_dict` checks
the shape and raises `msgspec.ValidationError` with the path of the offending field. Fields with a default may be absent, unknown ones are ignored, so
that a controller and an agent of neighbouring releases understand each other.

Bus `agent.<host>`, all calls idempotent and carrying `id` and `epoch`:
`compute.prepare` `compute.create` `compute.resume` `compute.destroy` `compute.power` `compute.console` `compute.state` `compute.nudge`,
for moves `compute.offer` `compute.withdraw` `compute.keep_copy` `compute.restore_copy` `compute.drop_copy`, for live ones `compute.receive`
`compute.received` `compute.send` `compute.abort_send` `compute.hurry_send`.
Bus `controller.compute`: `compute.desired` `compute.report` `compute.wake`, all with `host`: a node is heard for its own alone (kernel.bus.sender).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self

import msgspec

PowerState = Literal["running", "paused", "shutdown", "crashed", "suspended", "missing"]
DesiredPower = Literal["running", "shutdown"]
PowerAction = Literal[
    "start", "stop", "shutdown_graceful", "reboot_soft", "reboot_hard", "pause", "unpause", "suspend", "resume"
]
PrepareState = Literal["ready", "fetching", "failed"]

POWER_ACTIONS: tuple[PowerAction, ...] = (
    "start",
    "stop",
    "shutdown_graceful",
    "reboot_soft",
    "reboot_hard",
    "pause",
    "unpause",
    "suspend",
    "resume",
)
"""Every action of `compute.power`. The graceful ones (`shutdown_graceful`, `reboot_soft`) answer at once and cast `compute.wake` when done."""

STALE_EPOCH = "StaleEpoch"
"""Kind of the `RemoteError` for a call whose epoch is below the last one seen for the server."""
NOT_PREPARED = "NotPrepared"
"""Kind of the `RemoteError` for `compute.create` before `compute.prepare` answered ready."""
SERVER_MISSING = "ServerMissing"
"""Kind of the `RemoteError` for an action on a server this host does not have."""
BAD_STATE = "BadState"
"""Kind of the `RemoteError` for an action that the server's present power state does not allow."""
DRIVER_FAILED = "DriverFailed"
"""Kind of the `RemoteError` for everything the hypervisor refused; the message says what and why."""


class Wire:
    """Gives a dataclass its two directions on the bus."""

    def to_dict(self) -> dict[str, Any]:
        """The value as builtins: dicts, lists, strings, numbers."""
        result: dict[str, Any] = msgspec.to_builtins(self)
        return result

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """The value read back; raises `msgspec.ValidationError` naming the field that is wrong."""
        return msgspec.convert(value, cls)


@dataclass(frozen=True, kw_only=True)
class FlavorDoc(Wire):
    """The flavor as it was when the server was made; sizes in GiB and MiB as the API has them (`root_gb` 0 = the image's own size)."""

    id: str
    name: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    extra_specs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ImageDoc(Wire):
    """The image a root disk is made from. `size` in bytes, `min_disk` in GiB; `properties` are the image's extra properties (kernel_id, hw_*...)."""

    id: str
    disk_format: str
    size: int
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    min_disk: int = 0
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NicDoc(Wire):
    """One network card. `tap` is the host device the card hangs on; it is made by the agent of compute and attached by the agent of network."""

    port_id: str
    network_id: str
    mac: str
    tap: str
    mtu: int = 1500
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GuestMetadata(Wire):
    """What a guest may read about itself, rendered by the controller in the newest format, for the config drive.

    `meta_data`, `network_data`, `vendor_data`, `vendor_data2` are the JSON documents of those names; `user_data` is base64 (None = none given). `files`
    maps names below `openstack/content/` to base64 content. `ec2` is EC2's `meta-data.json`; empty means it is derived from `meta_data`.
    """

    meta_data: dict[str, Any]
    user_data: str | None = None
    network_data: dict[str, Any] = field(default_factory=dict)
    vendor_data: dict[str, Any] = field(default_factory=dict)
    vendor_data2: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    ec2: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ServerDoc(Wire):
    """Everything a host needs to run one server. `power_state` is what it shall be; `epoch` is the lease of the flow that says so."""

    id: str
    name: str
    hostname: str
    project_id: str
    user_id: str
    epoch: int
    flavor: FlavorDoc
    image: ImageDoc | None
    metadata: GuestMetadata
    nics: tuple[NicDoc, ...] = ()
    config_drive: bool = False
    power_state: DesiredPower = "running"


@dataclass(frozen=True, kw_only=True)
class DesiredServer(Wire):
    """One server that shall be on the host. One that is `kept` is on its way between hosts: its files stay and the host starts nothing by itself."""

    id: str
    power_state: DesiredPower
    doc: ServerDoc
    kept: bool = False


@dataclass(frozen=True, kw_only=True)
class Desired(Wire):
    """Answer of `compute.desired {host, since}`. With `full`, what is not in `servers` does not belong on the host any more."""

    version: int
    full: bool
    servers: tuple[DesiredServer, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HostResources(Wire):
    """What a host has and how it is called. Memory in MiB, disk in GiB; `hypervisor_version` is QEMU's as major*1000000+minor*1000+micro."""

    hypervisor_hostname: str
    hypervisor_type: str
    hypervisor_version: int
    vcpus: int
    memory_mb: int
    local_gb: int
    host_ip: str
    cpu_info: dict[str, Any] = field(default_factory=dict)
    memory_mb_used: int = 0
    local_gb_used: int = 0
    disk_available_least: int | None = None
    running_vms: int = 0
    uptime: str | None = None


@dataclass(frozen=True, kw_only=True)
class Report(Wire):
    """Payload of `compute.report`: heartbeat, power states of all servers of ours on the host, and its resources.

    `version` is the desired version that the host has applied; `seconds` is how long until the next report is due.
    """

    host: str
    version: int
    states: dict[str, PowerState]
    resources: HostResources
    seconds: float
