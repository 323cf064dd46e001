"""The contract of a network driver: bring one host to its desired state, say what stands, leave nothing behind.

The agent keeps the whole desired state of its host in a `HostState`, merges what the controller sends into it, and hands the driver the
state together with what was `Touched`. A driver compares with the host and changes only what differs: applying a state twice writes nothing,
and neither a restarted agent nor a repeated apply disturbs traffic.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from pileus.network.wire import KINDS, Desired, Gone, GroupItem, NetworkItem, PortItem, RouterItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a driver must know about its host; `home` is the directory it may keep files in.

    `run` is for files that processes without our rights read and that need not survive a boot: nobody but us can look into the home.
    """

    home: Path
    host: str
    external_bridge: str = "br-ex"
    external_cidr: str = "172.24.4.1/24"
    external_interface: str = ""
    physical_network: str = "public"
    vtep: str = ""
    dns_domain: str = "openstacklocal"
    dhcp_lease_seconds: int = 86400
    metadata_port: int = 9697

    @property
    def run(self) -> Path:
        return Path("/run/pileus") / hashlib.blake2b(bytes(self.home.absolute()), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """Ids that may differ from what was applied before, gone ones included. `full`: everything, and strangers of ours are removed."""

    networks: frozenset[str] = frozenset()
    ports: frozenset[str] = frozenset()
    routers: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    full: bool = False

    def __str__(self) -> str:
        if self.full:
            return "everything"
        counts = [f"{len(ids)} {kind}" for kind in KINDS if (ids := getattr(self, kind))]
        return ", ".join(counts) or "nothing"

    @classmethod
    def items(cls, source: Desired | Gone) -> Touched:
        """The ids of everything a document lists."""
        def listed(kind: str) -> frozenset[str]:
            return frozenset(item if isinstance(item, str) else item.id for item in getattr(source, kind))

        return cls(networks=listed("networks"), ports=listed("ports"), routers=listed("routers"), groups=listed("groups"))

    def only(self, ids: Collection[str]) -> Touched:
        """The part of it that is about these ids."""
        chosen = frozenset(ids)
        return Touched(networks=self.networks & chosen, ports=self.ports & chosen, routers=self.routers & chosen, groups=self.groups & chosen)

    def __contains__(self, id_: object) -> bool:
        return self.full or any(id_ in ids for ids in (self.networks, self.ports, self.routers, self.groups))

    def __or__(self, other: Touched) -> Touched:
        return Touched(
            networks=self.networks | other.networks,
            ports=self.ports | other.ports,
            routers=self.routers | other.routers,
            groups=self.groups | other.groups,
            full=self.full or other.full,
        )

    def __bool__(self) -> bool:
        return self.full or bool(self.networks or self.ports or self.routers or self.groups)


@dataclass(slots=True)
class HostState:
    """Everything this host shall have, by id, as of `version`."""

    version: int = 0
    networks: dict[str, NetworkItem] = field(default_factory=dict)
    ports: dict[str, PortItem] = field(default_factory=dict)
    routers: dict[str, RouterItem] = field(default_factory=dict)
    groups: dict[str, GroupItem] = field(default_factory=dict)

    def merge(self, desired: Desired) -> Touched:
        """Take over what the controller says and return what that touches.

        A document with a lower version than ours is refused (ValueError): it was rendered before one that we have applied.
        """
        if desired.version < self.version:
            raise ValueError(f"the desired state {desired.version} is older than {self.version}, which is applied")
        touched: dict[str, frozenset[str]] = {}
        for kind in KINDS:
            known = getattr(self, kind)
            given = {item.id: item for item in getattr(desired, kind)}
            gone = set(known) - set(given) if desired.full else set(getattr(desired.gone, kind)) - set(given)
            touched[kind] = frozenset({id_ for id_, item in given.items() if known.get(id_) != item} | gone)
            known.update(given)
            for id_ in gone:
                known.pop(id_, None)
        self.version = desired.version
        return Touched(
            networks=touched["networks"], ports=touched["ports"], routers=touched["routers"], groups=touched["groups"], full=desired.full
        )

    def everything(self) -> Touched:
        """All ids there are, without the removal of strangers that `full` means."""
        return Touched(networks=frozenset(self.networks), ports=frozenset(self.ports), routers=frozenset(self.routers), groups=frozenset(self.groups))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statuses:
    """What stands: ports and floating IPs ACTIVE or DOWN, routers ACTIVE or ERROR."""

    ports: dict[str, str] = field(default_factory=dict)
    routers: dict[str, str] = field(default_factory=dict)
    floating_ips: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where guests reach metadata: a socket to open in a network namespace, for the guests of one router or one isolated network."""

    kind: str
    id: str
    namespace: str
    address: str
    port: int


class NetworkDriver(abc.ABC):
    """One host's networks. Calls come from one thread at a time; `watch` alone runs beside them."""

    @abc.abstractmethod
    def apply(self, state: HostState, touched: Touched) -> dict[str, str]:
        """Bring what is touched to the state. Returns sentences about what could not be done, by id (or "host"); the rest is done.

        What failed is not remembered as applied: the next apply that touches it, and every full one, tries again.
        """

    @abc.abstractmethod
    def statuses(self, state: HostState, only: Touched | None = None) -> Statuses:
        """What stands of the state, or of its touched part."""

    @abc.abstractmethod
    def listeners(self, state: HostState) -> tuple[Listener, ...]:
        """Where the metadata service has to listen for this state."""

    @abc.abstractmethod
    def announce(self, state: HostState) -> None:
        """Say again in the networks that the addresses of the state's routers are here: switches may have learned another host."""

    @abc.abstractmethod
    def vtep(self) -> str:
        """The host's tunnel address, "" without one."""

    @abc.abstractmethod
    def remove_everything(self) -> None:
        """Remove every trace of ours from the host and put changed settings back."""

    @abc.abstractmethod
    def watch(self, changed: Callable[[Collection[str], bool], None]) -> None:
        """Report names of links that came, changed or went (True: look at all), until `close`; at once where nothing can change."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of what this process holds and end a running `watch`; the host stays as it is."""
