"""A hypervisor without guests: the full state machine, kept in a small SQLite file, with knobs for slowness and failure.

`pileus up --simulate` runs on it, tests and benchmarks too. It must stay cheap with thousands of servers: every call is one dictionary access and at
most one row written. State survives a restart as guests would survive it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from pileus.compute.drivers.base import (
    Action,
    Changed,
    DriverFailed,
    Gangway,
    ImageSource,
    NotPrepared,
    ServerMissing,
    needed,
    tail,
)
from pileus.compute.wire import HostResources, PowerState, ServerDoc
from pileus.kernel import clock

_WELCOME_SECONDS = 3600.0
_AFTER: Mapping[Action, PowerState] = {
    "start": "running",
    "stop": "shutdown",
    "reboot_hard": "running",
    "pause": "paused",
    "unpause": "running",
    "suspend": "suspended",
    "resume": "running",
}


@dataclass(frozen=True, kw_only=True)
class FakeHost:
    """How large the pretended host is. Memory in MiB, disk in GiB."""

    hostname: str = "fake"
    address: str = "127.0.0.1"
    vcpus: int = 1000
    memory_mb: int = 800_000
    local_gb: int = 600_000


@dataclass(frozen=True)
class _Guest:
    doc: ServerDoc
    state: PowerState = "missing"
    boots: int = 0
    stubborn: bool = False
    disk: str = ""
    copy: str | None = None


@dataclass
class _Knobs:
    latency: dict[str, float] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)


class FakeDriver:
    """See the module. A guest with state "missing" has disks and nothing else: prepared, or destroyed with its disks kept."""

    def __init__(
        self,
        home: pathlib.Path,
        host: FakeHost | None = None,
        latency: Mapping[str, float] | None = None,
        failures: Mapping[str, str] | None = None,
    ) -> None:
        self._host = host or FakeHost()
        self._lock = threading.Lock()
        self._changed: Changed = lambda _server_id: None
        self._knobs = _Knobs(dict(latency or {}))
        self._lasting = dict(failures or {})
        self._path = home / "fake-hypervisor.sqlite"
        self._guests: dict[str, _Guest] = {}
        self._sending: dict[str, threading.Event] = {}
        self._connection: sqlite3.Connection | None = None

    # knobs

    def delay(self, call: str, seconds: float) -> None:
        """Make every later call of this name take that long."""
        self._knobs.latency[call] = seconds

    def fail(self, call: str, message: str, times: int = 1) -> None:
        """Make the next calls of this name fail with the message."""
        self._knobs.failures.setdefault(call, []).extend([message] * times)

    def ignore_power_button(self, server_id: str) -> None:
        """Give the server a guest that does not react to its power button."""
        with self._lock:
            self._keep(server_id, replace(self._guests[server_id], stubborn=True))

    def happen(self, server_id: str, state: PowerState) -> None:
        """Let the guest change state by itself: a crash, a power-off from inside."""
        with self._lock:
            self._keep(server_id, replace(self._guests[server_id], state=state))
        self._changed(server_id)

    # the contract

    @property
    def address(self) -> str:
        return self._host.address

    def start(self, changed: Changed) -> None:
        self._changed = changed
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        self._path.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")  # a power loss would end real guests as well
        self._connection.execute("CREATE TABLE IF NOT EXISTS guests (id TEXT PRIMARY KEY, guest BLOB) WITHOUT ROWID")
        for server_id, packed in self._connection.execute("SELECT id, guest FROM guests"):
            self._guests[server_id] = msgspec.msgpack.decode(packed, type=_Guest)

    def stop(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def images_ready(self, doc: ServerDoc) -> bool:
        return doc.image is None or not (self._knobs.latency.get("fetch_images") or self._pending("fetch_images"))

    def fetch_images(self, doc: ServerDoc, source: ImageSource) -> None:
        self._enter("fetch_images")
        if doc.image is not None:
            source.show(doc.image.id)

    def prepare(self, doc: ServerDoc) -> None:
        self._enter("prepare")
        with self._lock:
            known = self._guests.get(doc.id)
            made = _Guest(doc, disk=f"made of {doc.image.id if doc.image else 'nothing'}")
            self._keep(doc.id, made if known is None else replace(known, doc=doc))

    def create(self, doc: ServerDoc) -> None:
        self._enter("create")
        with self._lock:
            guest = self._guests.get(doc.id)
            if guest is None:
                raise NotPrepared(f"Server {doc.id} has no disks on this host.")
            if guest.state == "missing":
                self._keep(doc.id, replace(guest, doc=doc, state="paused", boots=guest.boots + 1))
        self._changed(doc.id)

    def unfreeze(self, server_id: str) -> None:
        self._enter("unfreeze")
        self._power(server_id, "unpause", None)

    def destroy(self, server_id: str, *, keep_disks: bool = False) -> None:
        self._enter("destroy")
        with self._lock:
            guest = self._guests.get(server_id)
            if guest is None:
                return
            self._keep(server_id, replace(guest, state="missing") if keep_disks else None)
        self._changed(server_id)

    def power(self, server_id: str, action: Action, doc: ServerDoc | None = None) -> None:
        self._enter(action)
        self._power(server_id, action, doc)

    def state(self, server_id: str) -> PowerState:
        guest = self._guests.get(server_id)
        return "missing" if guest is None else guest.state

    def states(self) -> dict[str, PowerState]:
        with self._lock:
            return {server_id: guest.state for server_id, guest in self._guests.items()}

    def document(self, server_id: str) -> ServerDoc | None:
        guest = self._guests.get(server_id)
        return None if guest is None else guest.doc

    def disks(self, server_id: str) -> dict[str, int]:
        guest = self._guests.get(server_id)
        if guest is None:
            raise ServerMissing(f"Server {server_id} is not on this host.")
        return {"disk": len(guest.disk.encode())}

    def read_disk(self, server_id: str, name: str, offset: int, most: int) -> tuple[int, bytes]:  # noqa: ARG002 - one disk
        self._enter("read_disk")
        guest = self._guests.get(server_id)
        if guest is None:
            raise ServerMissing(f"Server {server_id} is not on this host.")
        return offset, guest.disk.encode()[offset : offset + most]

    def write_disk(self, doc: ServerDoc, name: str, size: int, pieces: Iterator[tuple[int, bytes]]) -> None:  # noqa: ARG002
        self._enter("write_disk")
        content = bytearray(size)
        for at, data in pieces:
            content[at : at + len(data)] = data
        with self._lock:
            if doc.id not in self._guests:
                self._keep(doc.id, _Guest(doc, disk=content.decode()))

    def write_inside(self, server_id: str, text: str) -> None:
        """Let the guest write something to its disk."""
        with self._lock:
            self._keep(server_id, replace(self._guests[server_id], disk=text))

    def read_inside(self, server_id: str) -> str:
        """What is on the guest's disk."""
        return self._guests[server_id].disk

    def gangway(self, server_id: str) -> Gangway:
        directory = (
            pathlib.Path(tempfile.gettempdir()) / f"pileus-{os.getuid()}" / f"{self._host.hostname}-{server_id}"[:60]
        )
        return Gangway(directory, {"guest": directory.with_suffix(".in")})

    def receive(self, doc: ServerDoc) -> dict[str, Any]:
        self._enter("receive")
        with self._lock:
            if doc.id not in self._guests:
                raise NotPrepared(f"Server {doc.id} has no disks on this host.")
        path = self.gangway(doc.id).sockets["guest"]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(1)
        threading.Thread(target=self._welcome, args=(listener, path), name="fake guest", daemon=True).start()
        return {}

    def _welcome(self, listener: socket.socket, path: pathlib.Path) -> None:
        with listener:
            listener.settimeout(_WELCOME_SECONDS)
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection, connection.makefile("rwb") as stream:
                    packed = stream.read(int(stream.readline()))
                    self.arrive(packed)
                    stream.write(b"welcome\n")
        path.unlink(missing_ok=True)

    def arrive(self, packed: bytes) -> None:
        """A guest comes with all its state."""
        guest = msgspec.msgpack.decode(packed, type=_Guest)
        with self._lock:
            self._keep(guest.doc.id, guest)
        self._changed(guest.doc.id)

    def send(self, server_id: str, there: Mapping[str, Any]) -> None:  # noqa: ARG002 - the gangway knows the way
        with self._lock:
            guest = self._guests.get(server_id)
            if guest is None:
                raise ServerMissing(f"Server {server_id} is not on this host.")
            if guest.state == "missing":
                return
            stopped = self._sending[server_id] = threading.Event()
        try:
            seconds = self._knobs.latency.get("send", 0.0)
            if seconds and stopped.wait(seconds) and server_id in self._sending:
                raise DriverFailed("The migration was aborted.")
            if self._pending("send"):
                self._enter("send")
            packed = msgspec.msgpack.encode(replace(guest, copy=None))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as way:
                way.connect(str(self.gangway(server_id).directory / "guest"))
                way.sendall(b"%d\n" % len(packed) + packed)
                if way.recv(64) != b"welcome\n":
                    raise DriverFailed("The destination did not take the guest.")
        except OSError as error:
            raise DriverFailed(f"The guest cannot leave: {error.strerror}.") from error
        finally:
            self._sending.pop(server_id, None)
        with self._lock:
            self._keep(server_id, replace(guest, state="missing"))

    def sending(self, server_id: str) -> dict[str, int]:
        guest = self._guests.get(server_id)
        if guest is None or server_id not in self._sending:
            return {}
        total = guest.doc.flavor.memory_mb << 20
        return {
            "memory_total_bytes": total,
            "memory_processed_bytes": total // 2,
            "memory_remaining_bytes": total - total // 2,
        }

    def abort_send(self, server_id: str) -> None:
        if (going := self._sending.get(server_id)) is not None:
            going.set()

    def hurry_send(self, server_id: str) -> None:
        self._enter("hurry_send")
        if (going := self._sending.pop(server_id, None)) is not None:
            going.set()

    def keep_copy(self, server_id: str) -> None:
        self._enter("keep_copy")
        with self._lock:
            guest = self._guests.get(server_id)
            if guest is None:
                raise ServerMissing(f"Server {server_id} is not on this host.")
            if guest.copy is None:
                self._keep(server_id, replace(guest, copy=guest.disk))

    def restore_copy(self, server_id: str) -> None:
        self._enter("restore_copy")
        with self._lock:
            guest = self._guests.get(server_id)
            if guest is not None and guest.copy is not None:
                self._keep(server_id, replace(guest, disk=guest.copy, copy=None, state="missing"))

    def drop_copy(self, server_id: str) -> None:
        self._enter("drop_copy")
        with self._lock:
            guest = self._guests.get(server_id)
            if guest is not None:
                self._keep(server_id, replace(guest, copy=None))

    def console(self, server_id: str, lines: int | None) -> str:
        self._enter("console")
        guest = self._guests.get(server_id)
        if guest is None or guest.state == "missing":
            raise ServerMissing(f"Server {server_id} is not on this host.")
        return tail("".join(_boot_log(guest.doc, boot) for boot in range(1, guest.boots + 1)), lines)

    def resources(self) -> HostResources:
        with self._lock:
            docs = [guest.doc for guest in self._guests.values() if guest.state != "missing"]
        disk = sum(doc.flavor.root_gb + doc.flavor.ephemeral_gb for doc in docs)
        return HostResources(
            hypervisor_hostname=self._host.hostname,
            hypervisor_type="fake",
            hypervisor_version=1,
            vcpus=self._host.vcpus,
            memory_mb=self._host.memory_mb,
            local_gb=self._host.local_gb,
            host_ip=self._host.address,
            cpu_info={
                "arch": "x86_64",
                "vendor": "Pileus",
                "model": "fake",
                "features": [],
                "topology": {"cores": self._host.vcpus, "sockets": 1, "threads": 1},
            },
            memory_mb_used=sum(doc.flavor.memory_mb for doc in docs),
            local_gb_used=disk,
            disk_available_least=self._host.local_gb - disk,
            running_vms=len(docs),
        )

    def watch(self) -> None:
        """Nothing of the fake's can die."""

    def tidy(self) -> None:
        """Nothing of the fake's piles up."""

    def halt(self, seconds: float) -> None:  # noqa: ARG002 - these guests need no time
        if self._path.exists():
            self.start(self._changed)
            for server_id, state in self.states().items():
                if state in {"running", "paused"}:
                    self._power(server_id, "stop", None)
            self.stop()

    def remove_everything(self) -> None:
        for path in self._path.parent.glob(self._path.name + "*"):
            path.unlink()

    # inside

    def _enter(self, call: str) -> None:
        """Be as slow and as broken as the knobs say."""
        seconds = self._knobs.latency.get(call, 0.0)
        if seconds:
            clock.sleep(seconds)
        if self._pending(call):
            once = self._knobs.failures.get(call)
            raise DriverFailed(once.pop(0) if once else self._lasting[call])

    def _pending(self, call: str) -> bool:
        return bool(self._knobs.failures.get(call)) or call in self._lasting

    def _power(self, server_id: str, action: Action, doc: ServerDoc | None) -> None:
        with self._lock:
            guest = self._guests.get(server_id)
            if guest is None or not needed(server_id, action, guest.state):
                if guest is None:
                    raise ServerMissing(f"Server {server_id} is not on this host.")
                return
            if action == "press_power_button":
                after: PowerState = "running" if guest.stubborn else "shutdown"
            else:
                after = _AFTER[action]
            boots = guest.boots + (action in {"start", "reboot_hard"})
            self._keep(server_id, replace(guest, doc=doc or guest.doc, state=after, boots=boots))
        self._changed(server_id)

    def _keep(self, server_id: str, guest: _Guest | None) -> None:
        """Remember the guest, or forget it for None; the caller holds the lock."""
        if self._connection is None:
            raise DriverFailed("The fake hypervisor is not started.")
        if guest is None:
            self._guests.pop(server_id, None)
            self._connection.execute("DELETE FROM guests WHERE id = ?", (server_id,))
        else:
            self._guests[server_id] = guest
            self._connection.execute(
                "INSERT OR REPLACE INTO guests VALUES (?, ?)", (server_id, msgspec.msgpack.encode(guest))
            )


def state_in(packed: bytes) -> PowerState:
    """The power state of a guest as the file keeps it, for whoever looks at a pretended host from outside."""
    return msgspec.msgpack.decode(packed, type=_Guest).state


def _boot_log(doc: ServerDoc, boot: int) -> str:
    """What the n-th boot of a small guest writes: the same text every time."""
    addresses = " ".join(f"{nic.mac}={','.join(nic.ips) or 'none'}" for nic in doc.nics) or "none"
    return (
        f"[    0.000000] Booting simulated guest, boot {boot}\n"
        f"[    0.000000] Memory: {doc.flavor.memory_mb * 1024}K, CPUs: {doc.flavor.vcpus}\n"
        f"[    0.120000] virtio_blk virtio1: [vda] {doc.flavor.root_gb} GiB\n"
        f"[    0.310000] network cards: {addresses}\n"
        f"[    1.000000] cloud: instance-id {doc.id}\n"
        f"[    1.200000] cloud: hostname {doc.hostname}\n"
        f"\n"
        f"{doc.hostname} login: \n"
    )
