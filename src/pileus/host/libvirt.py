"""libvirt with types, reconnecting: the few calls that running servers needs, each by domain UUID.

One connection per process; a call that finds it dead opens a new one. Lifecycle events come on a thread of this module. Domains that belong to an
installation carry a mark in their metadata, so that nobody else's are ever listed here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal
from xml.etree import ElementTree as ET

import libvirt

Power = Literal["running", "paused", "shutdown", "crashed", "suspended"]
MARK_URI = "urn:pileus:server:1"
MARK_PREFIX = "pileus"

_STATES: dict[int, Power] = {
    libvirt.VIR_DOMAIN_NOSTATE: "running",
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "running",  # on its way down, still a process
    libvirt.VIR_DOMAIN_SHUTOFF: "shutdown",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
}
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
_TRANSPORT = (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE)
_UNREACHABLE = (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC)


class LibvirtError(Exception):
    """libvirt refused or cannot be reached; the text is libvirt's own."""


class Lost(LibvirtError):
    """libvirt does not answer, or stopped answering in the middle: what was asked may or may not have been done."""


class NoDomain(LibvirtError):
    """There is no domain with this UUID."""


class Hypervisor:
    """A connection to one libvirt, by URI."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._lock = threading.Lock()
        self._connection: Any = None
        self._watcher: Callable[[str], None] | None = None

    def connect(self) -> None:
        """Open the connection, or check the one there is. LibvirtError when libvirt does not answer."""
        with _failing():
            self._alive()

    def close(self) -> None:
        with self._lock, contextlib.suppress(libvirt.libvirtError):
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with the UUID of every domain whose life cycle moves on, from now on and across reconnects."""
        with _failing():
            connection = self._alive()
            registered = self._watcher is not None
            self._watcher = watcher  # from here on every new connection registers it
            if not registered:
                self._register(connection)

    def define(self, xml: str) -> None:
        """Make or replace the persistent definition of a domain."""
        with _failing():
            self._alive().defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

    def start(self, uuid: str, *, paused: bool = False) -> None:
        """Start a defined domain; one that was saved continues where it was. A domain that runs is left alone."""
        with self._domain(uuid) as domain:
            if not domain.isActive():
                domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)

    def kill(self, uuid: str) -> None:
        """End the guest's process; nothing happens when it has none."""
        with self._domain(uuid) as domain:
            if domain.isActive():
                try:
                    domain.destroy()
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:  # it ended by itself meanwhile
                        raise

    def undefine(self, uuid: str) -> None:
        """Forget the domain with its saved memory and firmware variables."""
        with self._domain(uuid) as domain:
            domain.undefineFlags(_UNDEFINE)

    def press_power_button(self, uuid: str) -> None:
        with self._domain(uuid) as domain:
            domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    def pause(self, uuid: str) -> None:
        with self._domain(uuid) as domain:
            domain.suspend()

    def unpause(self, uuid: str) -> None:
        with self._domain(uuid) as domain:
            domain.resume()

    def save(self, uuid: str) -> None:
        """Write the guest's memory to disk and end its process."""
        with self._domain(uuid) as domain:
            domain.managedSave(0)

    def discard_save(self, uuid: str) -> None:
        """Forget saved memory, so that the next start is a boot."""
        with self._domain(uuid) as domain:
            if domain.hasManagedSaveImage(0):
                domain.managedSaveRemove(0)

    def migrate(self, uuid: str, to: str, *, memory: str, disks: str, xml: str) -> None:
        """Move a running domain with its disks to another libvirt, at URI `to`, and forget it here.

        `memory` and `disks` are the URIs of the two streams; `xml` is what the domain shall be there. Returns when it runs there.
        """
        flags = (
            libvirt.VIR_MIGRATE_LIVE
            | libvirt.VIR_MIGRATE_PEER2PEER
            | libvirt.VIR_MIGRATE_PERSIST_DEST
            | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
            | libvirt.VIR_MIGRATE_NON_SHARED_INC
            | libvirt.VIR_MIGRATE_AUTO_CONVERGE
        )
        given = {
            libvirt.VIR_MIGRATE_PARAM_URI: memory,
            libvirt.VIR_MIGRATE_PARAM_DISKS_URI: disks,
            libvirt.VIR_MIGRATE_PARAM_DEST_XML: xml,
            libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: xml,
        }
        with self._domain(uuid) as domain:
            domain.migrateToURI3(to, given, flags)

    def migratable(self, uuid: str) -> str:
        """The domain's XML as another libvirt can take it over."""
        with self._domain(uuid) as domain:
            xml: str = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE)
            return xml

    def job(self, uuid: str) -> dict[str, Any]:
        """Numbers of the job that works on the domain, by libvirt's names; {} without one."""
        with self._domain(uuid) as domain:
            found: dict[str, Any] = domain.jobStats()
            return {} if found.get("type") in {None, libvirt.VIR_DOMAIN_JOB_NONE} else found

    def abort_job(self, uuid: str) -> None:
        with self._domain(uuid) as domain:
            domain.abortJob()

    def power(self, uuid: str) -> Power:
        with self._domain(uuid) as domain:
            return _power(domain)

    def marked(self, mark: str) -> dict[str, Power]:
        """Power states of all domains that carry the mark, by UUID."""
        found: dict[str, Power] = {}
        with _failing():
            for domain in self._alive().listAllDomains(0):
                with contextlib.suppress(libvirt.libvirtError):  # gone since it was listed, or no mark of this kind
                    element = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, MARK_URI, 0)
                    if ET.fromstring(element).get("home") == mark:  # noqa: S314 - libvirt's own answer
                        found[domain.UUIDString()] = _power(domain)
        return found

    def description(self, uuid: str) -> ET.Element:
        """The domain's present XML, with what libvirt has filled in (ports, paths)."""
        with self._domain(uuid) as domain:
            return ET.fromstring(domain.XMLDesc(0))  # noqa: S314 - libvirt's own answer

    def capabilities(self) -> ET.Element:
        with _failing():
            return ET.fromstring(self._alive().getCapabilities())  # noqa: S314 - libvirt's own answer

    def facts(self) -> tuple[str, int, int, int]:
        """Host name, QEMU's version as a number (major*1000000 + minor*1000 + micro), CPUs and MiB of memory."""
        with _failing():
            connection = self._alive()
            info = connection.getInfo()
            return connection.getHostname(), connection.getVersion(), info[2], info[1]

    @contextlib.contextmanager
    def _domain(self, uuid: str) -> Iterator[Any]:
        with _failing():
            yield self._alive().lookupByUUIDString(uuid)

    def _alive(self) -> Any:
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(libvirt.libvirtError):
                    if self._connection.isAlive():
                        return self._connection
                with contextlib.suppress(libvirt.libvirtError):
                    self._connection.close()
                self._connection = None
            _start_events()
            connection = libvirt.open(self._uri)
            connection.setKeepAlive(5, 3)
            self._connection = connection
            if self._watcher is not None:
                self._register(connection)
            return connection

    def _register(self, connection: Any) -> None:
        def happened(_connection: Any, domain: Any, _event: int, _detail: int, _opaque: Any) -> None:
            if self._watcher is not None:
                self._watcher(domain.UUIDString())

        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, happened, None)


def _power(domain: Any) -> Power:
    number, reason = domain.state(0)
    if number == libvirt.VIR_DOMAIN_SHUTOFF:
        if domain.hasManagedSaveImage(0):
            return "suspended"
        if reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED:
            return "crashed"
    return _STATES[number]


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        text = error.get_error_message() or str(error)
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            raise NoDomain(text) from error
        if error.get_error_domain() in _TRANSPORT or error.get_error_code() in _UNREACHABLE:
            raise Lost(text) from error
        raise LibvirtError(text) from error


_events_lock = threading.Lock()
_events_running = False


def _start_events() -> None:
    """Start libvirt's event loop once per process; connections must be opened after it."""
    global _events_running
    with _events_lock:
        if _events_running:
            return
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # errors are raised; it would print them too
        libvirt.virEventRegisterDefaultImpl()

        def turn() -> None:
            while True:
                libvirt.virEventRunDefaultImpl()

        threading.Thread(target=turn, name="libvirt-events", daemon=True).start()
        _events_running = True
