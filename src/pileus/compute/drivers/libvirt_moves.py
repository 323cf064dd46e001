"""The part of the libvirt driver that lets servers come and go: their disks as files, and running guests through a gangway.

A running guest leaves by libvirt's peer-to-peer migration. Both libvirts and both QEMUs speak through sockets below /run, which the agents carry from host
to host (`agent/tunnel.py`): nothing of libvirt's listens on a network.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from pileus.compute.drivers.base import DriverFailed, Gangway, HypervisorLost, NotPrepared, ServerMissing
from pileus.compute.drivers.image_cache import CachedImage
from pileus.compute.drivers.instance_files import InstanceFiles
from pileus.compute.wire import PowerState, ServerDoc
from pileus.host import libvirtd, taps
from pileus.host.libvirt import MARK_URI, Hypervisor, LibvirtError, Lost, NoDomain

_GANGWAYS = pathlib.Path("/run/pileus-moves")
"""The same path on every host: each QEMU uses the path that the other's would have."""


class Moves:
    """Mixed into the driver, whose attributes it uses."""

    _home: pathlib.Path
    _own: pathlib.Path | None
    _hypervisor: Hypervisor
    _guest_user: tuple[int, int] | None

    def state(self, server_id: str) -> PowerState:
        raise NotImplementedError

    def document(self, server_id: str) -> ServerDoc | None:
        raise NotImplementedError

    def destroy(self, server_id: str, *, keep_disks: bool = False) -> None:
        raise NotImplementedError

    def _files(self, server_id: str) -> InstanceFiles:
        raise NotImplementedError

    def _cached(self, image_id: str) -> CachedImage:
        raise NotImplementedError

    def _plug(self, doc: ServerDoc | None) -> None:
        raise NotImplementedError

    def _vnc_address(self) -> str:
        raise NotImplementedError

    # disks

    def disks(self, server_id: str) -> dict[str, int]:
        found = {disk.path.name: disk.path.stat().st_size for disk in self._files(server_id).disks()}
        if not found:
            raise ServerMissing(f"Server {server_id} is not on this host.")
        return found

    def read_disk(self, server_id: str, name: str, offset: int, most: int) -> tuple[int, bytes]:
        return self._files(server_id).read(name, offset, most)

    def write_disk(self, doc: ServerDoc, name: str, size: int, pieces: Iterator[tuple[int, bytes]]) -> None:
        image = None if doc.image is None else self._cached(doc.image.id)
        self._files(doc.id).receive(name, size, pieces, image)

    def keep_copy(self, server_id: str) -> None:
        if self.document(server_id) is None:
            raise ServerMissing(f"Server {server_id} is not on this host.")
        self._files(server_id).keep_copy()

    def restore_copy(self, server_id: str) -> None:
        files = self._files(server_id)
        if files.has_copy():
            self.destroy(server_id, keep_disks=True)
            files.restore_copy()

    def drop_copy(self, server_id: str) -> None:
        self._files(server_id).drop_copy()

    # running guests

    def gangway(self, server_id: str) -> Gangway:
        directory = _GANGWAYS / server_id
        daemon = libvirtd.Daemons(self._own).socket if self._own is not None else libvirtd.host_socket()
        sockets = {"libvirt": daemon, "memory": directory / "memory", "disks": directory / "disks"}
        return Gangway(directory, sockets, self._guest_user)

    def receive(self, doc: ServerDoc) -> dict[str, Any]:
        files = self._files(doc.id)
        if not files.complete():
            raise NotPrepared(f"Server {doc.id} has no disks on this host.")
        with failing():
            self._plug(doc)
        gangway = self.gangway(doc.id)
        shutil.rmtree(gangway.directory, ignore_errors=True)
        gangway.make()
        return {"home": str(self._home), "vnc": self._vnc_address()}

    def send(self, server_id: str, there: Mapping[str, Any]) -> None:
        if self.state(server_id) == "missing":
            return
        directory = self.gangway(server_id).directory
        with failing():
            xml = relocated(self._hypervisor.migratable(server_id), str(self._home), there["home"], there["vnc"])
        try:
            self._hypervisor.migrate(
                server_id,
                f"qemu+unix:///system?socket={directory / 'libvirt'}",
                memory=f"unix://{directory / 'memory'}",
                disks=f"unix://{directory / 'disks'}",
                xml=xml,
            )
        except LibvirtError as error:  # also when it is the other libvirt that does not answer
            raise DriverFailed(str(error)) from error

    def sending(self, server_id: str) -> dict[str, int]:
        try:
            with failing():
                found = self._hypervisor.job(server_id)
        except DriverFailed:
            return {}
        numbers = [f"{kind}_{part}" for kind in ("memory", "disk") for part in ("total", "processed", "remaining")]
        return {f"{name}_bytes": int(found[name]) for name in numbers if name in found}

    def abort_send(self, server_id: str) -> None:
        with contextlib.suppress(LibvirtError):  # there was none, or it is over
            self._hypervisor.abort_job(server_id)

    def hurry_send(self, server_id: str) -> None:
        with contextlib.suppress(NoDomain), failing():
            if self._hypervisor.job(server_id):
                self._hypervisor.pause(server_id)  # libvirt lets it run again at the destination

    def _close_gangway(self, server_id: str) -> None:
        shutil.rmtree(_GANGWAYS / server_id, ignore_errors=True)


def relocated(xml: str, home: str, new_home: str, vnc_address: str) -> str:
    """The definition of a domain as it is right on a host with another home and another address for its screen."""
    ET.register_namespace("pileus", MARK_URI)
    domain = ET.fromstring(xml)  # noqa: S314 - libvirt's own answer
    for element in domain.iter():
        for name, value in element.attrib.items():
            element.set(name, _moved(value, home, new_home))
        if element.text:
            element.text = _moved(element.text, home, new_home)
    for graphics in domain.findall("./devices/graphics"):
        graphics.set("listen", vnc_address)
        for listen in graphics.findall("listen"):
            listen.set("address", vnc_address)
    return ET.tostring(domain, encoding="unicode")


def _moved(text: str, home: str, new_home: str) -> str:
    return new_home + text[len(home) :] if text == home or text.startswith(home + "/") else text


@contextlib.contextmanager
def failing() -> Iterator[None]:
    """Give the host's errors the driver's name."""
    try:
        yield
    except Lost as error:
        raise HypervisorLost(str(error)) from error
    except (LibvirtError, libvirtd.LibvirtdError, taps.TapError) as error:
        raise DriverFailed(str(error)) from error
